"""An incoming webhook of Slack on loopback, as documented: plain text answers."""

from aiohttp import web

from tests.doubles.chat_services import ChatDouble

PATH = "/services/T000/B000/the-right-secret"


class SlackDouble(ChatDouble):
    @property
    def webhook_url(self):
        return self.url + PATH

    def answer(self, path, content):
        if path != PATH:
            return web.Response(status=404, text="no_service")
        if not content.get("text"):
            return web.Response(status=400, text="no_text")
        if refusal := self.refusal():
            return refusal
        self.take(content)
        return web.Response(text="ok")
