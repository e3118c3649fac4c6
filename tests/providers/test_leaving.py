"""The journal's moment: told once, before the last byte; where it cannot be told, nothing is sent."""

from __future__ import annotations

import errno
from functools import partial

import pytest

from rotord.core.model import Outcome
from tests.doubles.smtp_server import ScriptedServer
from tests.providers.http_support import KINDS, api, double
from tests.providers.shapes import envelope_of
from tests.providers.support import MIME, envelope, send, smtp

SIZES = pytest.mark.parametrize("size", [0, 65_536, 300_000])


def of_size(an_envelope, size):
    return an_envelope._replace(mime=an_envelope.mime + b"line of the body\r\n" * (size // 18))


class Journal:
    """Notes what it is told and what the other side had by then."""

    def __init__(self, taken, *, full=False):
        self.told = []
        self._taken = taken
        self._full = full

    def leaving(self, attempt_id):
        self.told.append((attempt_id, self._taken()))
        if self._full:
            raise OSError(errno.EIO, "Input/output error")


@SIZES
@pytest.mark.parametrize("full", [False, True])
async def test_smtp_tells_before_the_final_dot(size, full):
    async with ScriptedServer({}) as server, smtp(server.port) as provider:
        journal = Journal(lambda: len(server.messages), full=full)
        reply = await send(provider, of_size(envelope(7, mime=MIME), size), partial(journal.leaving, 7))

    assert journal.told == [(7, 0)]
    assert reply.outcome is (Outcome.NOT_SENT if full else Outcome.ACCEPTED)
    assert len(server.messages) == (0 if full else 1)


@SIZES
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_http_tells_before_the_end_of_the_body(tmp_path, kind, size, full):
    async with double(kind, tmp_path) as server, api(kind, server) as provider:
        journal = Journal(lambda: len(server.mails), full=full)
        plain = envelope_of("plain")
        reply = await send(provider, of_size(plain, size), partial(journal.leaving, plain.attempt_id))

    assert journal.told
    assert set(journal.told) == {(plain.attempt_id, 0)}
    assert reply.outcome is (Outcome.NOT_SENT if full else Outcome.ACCEPTED)
    assert len(server.mails) == (0 if full else 1)
    assert full or len(journal.told) == 1
