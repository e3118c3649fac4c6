"""aiosmtpd with STARTTLS and AUTH as a process: `python -m tests.doubles.tls_receiver CERTIFICATE LOG`, prints its port.

Answers after 50 to 300 ms, one in twenty after 2 to 4 s; its log is like rotord.receiver's.
"""

import asyncio
import json
import random
import ssl
import sys
import time
from email import message_from_bytes
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult

USERNAME, PASSWORD = "rotord", "canary-of-the-relay"


class Handler:
    def __init__(self, log):
        self.log = log
        self.chance = random.Random(7)

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        headers = message_from_bytes(envelope.content)
        entry = {"at": time.time(), "from": envelope.mail_from, "rcpt": envelope.rcpt_tos, "row": headers["X-Row"]}
        self.log.write(json.dumps(entry) + "\n")
        self.log.flush()
        slow = self.chance.random() < 0.05
        await asyncio.sleep(self.chance.uniform(2, 4) if slow else self.chance.uniform(0.05, 0.3))
        return "250 2.0.0 Ok"


def authenticate(_server, _session, _envelope, _mechanism, data):
    return AuthResult(success=(data.login, data.password) == (USERNAME.encode(), PASSWORD.encode()))


async def main(certificate, log):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    handler = Handler(log)

    def session():
        return SMTP(
            handler,
            hostname="tls.example",
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=authenticate,
            timeout=300,
        )

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with Path(sys.argv[2]).open("a", encoding="utf-8") as truth:
        asyncio.run(main(sys.argv[1], truth))
