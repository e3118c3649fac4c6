"""The receiver is a judge: its log must hold what was said to it, before it answers, whoever the client is."""

import asyncio
import json
import signal
import sys

import aiosmtplib
import pytest

from rotord.receiver import Receiver, ReceiverConfig

MIME = b"X-Rotord-Attempt: 42\r\nMessage-ID: <m@x>\r\nSubject: a\r\n long one\r\nX-Row: 9\r\n\r\n.dot\r\nbody\r\n"


def truth(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


async def test_a_message_is_logged_with_its_envelope_and_headers(tmp_path):
    log = tmp_path / "truth.jsonl"
    async with Receiver(ReceiverConfig(log)) as receiver:
        await aiosmtplib.send(
            MIME, sender="a@x.example", recipients=["b@y.example"], hostname="127.0.0.1", port=receiver.port, start_tls=False
        )
        assert receiver.accepted == 1

    [line] = truth(log)
    assert line.pop("at") > 1_700_000_000
    assert line == {
        "from": "a@x.example",
        "rcpt": ["b@y.example"],
        "size": len(MIME),
        "attempt": "42",
        "message_id": "<m@x>",
        "subject": "a long one",
        "row": "9",
    }


async def test_pipelined_commands_and_split_bytes_are_understood(tmp_path):
    first = b"EHLO x\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n\r\n..\r\n.\r\n"
    whole = first + b"MAIL FROM:<a@x>\r\nRCPT TO:<c@y>\r\nDATA\r\n.\r\nQUIT\r\n"
    for size in (1, 3, len(whole)):
        log = tmp_path / f"{size}.jsonl"
        async with Receiver(ReceiverConfig(log, latency_s=(0.001, 0.002))) as receiver:
            reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
            for start in range(0, len(whole), size):
                writer.write(whole[start : start + size])
                await writer.drain()
            answer = await reader.read()
            writer.close()

        codes = [line[:3] for line in answer.split(b"\r\n") if line[3:4] == b" "]
        assert codes == [b"220", b"250", b"250", b"250", b"354", b"250", b"250", b"250", b"354", b"250", b"221"]
        assert [(line["rcpt"], line["size"]) for line in truth(log)] == [(["b@y"], 5), (["c@y"], 0)]


@pytest.mark.parametrize(
    ("command", "code"),
    [(b"RCPT TO:<a@b>", 503), (b"DATA", 503), (b"MAIL a@b", 501), (b"HELO x", 250), (b"NOOP", 250), (b"VRFY x", 502), (b"x" * 9000, 500)],
)
async def test_what_is_out_of_order_is_refused(tmp_path, command, code):
    async with Receiver(ReceiverConfig(tmp_path / "log")) as receiver:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        await reader.readline()
        writer.write(command if code == 500 else command + b"\r\n")

        assert (await reader.readline()).startswith(b"%d" % code)
        writer.close()


async def test_a_silent_receiver_has_the_message_but_never_says_so(tmp_path):
    log = tmp_path / "log"
    async with Receiver(ReceiverConfig(log, silent_share=1.0)) as receiver:
        with pytest.raises(aiosmtplib.SMTPReadTimeoutError):
            await aiosmtplib.send(
                MIME, sender="a@x", recipients=["b@y"], hostname="127.0.0.1", port=receiver.port, start_tls=False, timeout=0.3
            )

        assert len(truth(log)) == 1


async def test_as_a_process_it_prints_its_port_and_ends_on_sigterm(tmp_path):
    log = tmp_path / "log"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rotord.receiver",
        "--log",
        str(log),
        "--latency-ms",
        "1,5",
        "--slow-share",
        "0.5",
        "--slow-s",
        "0.01",
        stdout=asyncio.subprocess.PIPE,
    )
    port = int(await process.stdout.readline())
    await aiosmtplib.send(MIME, sender="a@x", recipients=["b@y"], hostname="127.0.0.1", port=port, start_tls=False)
    process.send_signal(signal.SIGTERM)

    assert await process.wait() == 0
    assert len(truth(log)) == 1
