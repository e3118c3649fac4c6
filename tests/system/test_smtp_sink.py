"""Postfix's own test server as the judge: it refuses, hangs and hangs up at each step, and dumps what it took."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rotord.core.model import Outcome
from tests.providers.support import send, smtp, until

pytestmark = [pytest.mark.system, pytest.mark.skipif(shutil.which("smtp-sink") is None, reason="needs the package postfix")]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def dumps():
    """A directory of nobody's, outside of pytest's own, which is root's alone."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        yield directory


@asynccontextmanager
async def smtp_sink(dumps, *options):
    """smtp-sink on a free port. Started as root it becomes nobody."""
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "smtp-sink", *user, *options, "-d", f"{dumps}/%M.", f"127.0.0.1:{port}", "20", stderr=asyncio.subprocess.PIPE
    )
    try:
        yield port
        assert process.returncode is None, await process.stderr.read()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize(
    ("options", "outcome", "code", "kept"),
    [
        ([], Outcome.ACCEPTED, "250 2.0.0", 1),
        (["-r", "RCPT", "-b", "450 4.2.1 receiving too quickly"], Outcome.DEFERRED, "450 4.2.1", 0),
        (["-f", "RCPT", "-B", "550 5.1.1 user unknown"], Outcome.REJECTED, "550 5.1.1", 0),
        (["-f", "DATA", "-B", "550 5.7.26 unauthenticated"], Outcome.REJECTED, "550 5.7.26", 0),
        (["-f", ".", "-B", "550 5.7.1 unsolicited"], Outcome.REJECTED, "550 5.7.1", None),
        (["-r", ".", "-b", "421 4.7.28 unusual rate"], Outcome.DEFERRED, "421 4.7.28", None),
        (["-q", "DATA"], Outcome.NOT_SENT, "", 0),
        (["-q", "."], Outcome.UNCERTAIN, "", None),
        (["-w", "9"], Outcome.NOT_SENT, "", 0),
        (["-W", ".:9"], Outcome.UNCERTAIN, "", None),
    ],
)
async def test_each_fault_of_smtp_sink_is_called_what_it_is(dumps, options, outcome, code, kept):
    async with smtp_sink(dumps, *options) as port, smtp(port, command_timeout_s=1.0, final_dot_timeout_s=1.0) as provider:
        reply = await send(provider)

    assert (reply.outcome, reply.code) == (outcome, code)
    if kept is not None:
        assert sum(b"X-Rcpt-Args" in dump.read_bytes() and b"body\n" in dump.read_bytes() for dump in dumps.iterdir()) == kept


async def test_a_refused_connection_is_a_provider_that_is_down(dumps):
    async with smtp_sink(dumps, "-f", "CONNECT", "-B", "554 5.7.1 not you") as port, smtp(port) as provider:
        await until(lambda: "554" in provider.status().reason)

        assert provider.status().up is False
