"""What the doubles of Telegram and Slack share: a server on loopback with a truth log on disk, which refuses on order."""

import asyncio
import json
from collections import deque

from aiohttp import web


class ChatDouble:
    """`refusals`: (status, body, headers) for the next messages, one each. A message is in the log once it was taken.

    `drip_s`: seconds between an answer's bytes.
    """

    def __init__(self, directory):
        self.refusals = deque()
        self.drip_s = 0.0
        self.requests = []
        self._truth = directory / f"{type(self).__name__}.jsonl"
        self._truth.touch()

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/{path:.*}", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    def truth(self):
        """The messages that were taken, in order."""
        return [json.loads(line) for line in self._truth.read_text().splitlines()]

    def take(self, content):
        with self._truth.open("a") as log:
            log.write(json.dumps(content) + "\n")

    def refusal(self):
        if not self.refusals:
            return None
        status, body, headers = self.refusals.popleft()
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers)

    async def _post(self, request):
        content = await request.json()
        self.requests.append((request.path, content))
        answer = self.answer(request.path, content)
        if not self.drip_s:
            return answer
        dripping = web.StreamResponse(status=answer.status)
        await dripping.prepare(request)
        for octet in answer.body:
            await dripping.write(bytes([octet]))
            await asyncio.sleep(self.drip_s)
        await dripping.write_eof()
        return dripping

    def answer(self, path, content):
        raise NotImplementedError
