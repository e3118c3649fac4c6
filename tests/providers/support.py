"""What the tests of providers share: an envelope, a provider that runs, and waiting for a state instead of for a time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from rotord.core.model import Message, Sender
from rotord.providers.base import Envelope
from rotord.providers.smtp import SmtpConfig, SmtpProvider

MIME = b"From: a@x.example\r\nTo: b@y.example\r\nMessage-ID: <1@x.example>\r\nSubject: hi\r\n\r\n.dot\r\nbody\r\n..two\r\n"


def envelope(attempt_id=7, *, recipient="b@y.example", sender="a@x.example", mime=MIME):
    message = Message(id=attempt_id, client="acme", recipient=recipient, subject="hi", message_id="<1@x.example>")
    return Envelope(attempt_id, Sender(sender), message, mime)


def smtp_config(port, **changes):
    settings = {
        "host": "127.0.0.1",
        "tls": "none",
        "connections": 4,
        "command_timeout_s": 5.0,
        "final_dot_timeout_s": 5.0,
        "connect_timeout_s": 5.0,
    }
    return SmtpConfig(name="relay", port=port, **(settings | changes))


@asynccontextmanager
async def running(provider):
    """The provider's `run` beside the test's body."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(provider.run())
            try:
                yield provider
            finally:
                task.cancel()
    finally:
        await provider.close()


def smtp(port, **changes):
    return running(SmtpProvider(smtp_config(port, **changes)))


async def until(condition):
    """Wait until it holds; the test's own time limit ends it otherwise."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a state of another party, which sends no event
            await asyncio.sleep(0.002)


async def slot_of(provider, wanted=1):
    provider.want(wanted)
    await until(lambda: provider.ready() > 0)
    return provider.take()


async def send(provider, an_envelope=None, leaving=lambda: None):
    return await send_by(await slot_of(provider), an_envelope or envelope(), leaving)


async def send_by(slot, an_envelope, leaving=lambda: None):
    slot.prepare(an_envelope)
    return await slot.send(leaving)
