"""Postfix as a durable relay: how fast it takes messages of 6 kB, how fast they have left. Needs root and Debian's package.

    python -m bench.postfix [--messages 4000]

A private instance with stock limits and its queue on this disk, between Postfix's own smtp-source (20 sessions) and smtp-sink. It syncs
each message; rotord's begin syncs a batch and promises something else: what a crash leaves is uncertain, not sent again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from bench.figures import Figure, Scale, table

MESSAGES = {Scale.TINY: 200, Scale.SHORT: 3000, Scale.FULL: 20_000}
MAIN = """compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
myhostname = relay.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
relayhost = [127.0.0.1]:{sink}
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
"""


def is_there() -> bool:
    """Whether this machine can run it."""
    return os.geteuid() == 0 and all(shutil.which(name) for name in ("postfix", "smtp-source", "smtp-sink"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configure(folder: Path, port: int, sink: int) -> Path:
    folder.chmod(0o755)  # Postfix is many users
    etc = folder / "etc"
    for one in (etc, folder / "queue", folder / "data"):
        one.mkdir()
    shutil.chown(folder / "data", "postfix")
    (etc / "main.cf").write_text(MAIN.format(folder=folder, sink=sink))
    master = Path("/usr/share/postfix/master.cf.dist").read_text()
    master = re.sub(r"^smtp +inet .*$", f"127.0.0.1:{port} inet n - n - - smtpd", master, count=1, flags=re.MULTILINE)
    lines = [re.sub(r"^(\S+\s+(?:unix|inet|fifo)\s+\S+\s+\S+\s+)y(\s)", r"\1n\2", line) for line in master.splitlines()]
    (etc / "master.cf").write_text("\n".join(lines) + "\n")
    return etc


def waiting(folder: Path) -> int:
    """Messages in the queue."""
    return sum(len(files) for name in ("maildrop", "incoming", "active", "deferred") for _, _, files in os.walk(folder / "queue" / name))


async def run(messages: int) -> dict[str, float]:
    port, sink_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="postfix-") as name:
        folder = Path(name)
        etc = configure(folder, port, sink_port)
        sink = await asyncio.create_subprocess_exec(
            "smtp-sink", "-u", "nobody", f"127.0.0.1:{sink_port}", "1024", stdout=subprocess.DEVNULL
        )
        try:
            await _control(etc, "start")
            began = time.monotonic()
            words = ("-s", "20", "-l", "6000", "-m", str(messages), "-f", "a@relay.test", "-t", "r@example.org")
            source = await asyncio.create_subprocess_exec("smtp-source", *words, f"127.0.0.1:{port}")
            if await source.wait() != 0:
                raise RuntimeError(f"smtp-source failed: {(folder / 'log').read_text()[-2000:]}")
            taken = time.monotonic()
            while waiting(folder):  # noqa: ASYNC110 - another program's time
                await asyncio.sleep(0.02)
            left = time.monotonic()
            if (folder / "log").read_text().count("status=sent") < messages:
                raise RuntimeError("Postfix lost messages or deferred them")
            return {"taken": messages / (taken - began), "left": messages / (left - began)}
        finally:
            await _control(etc, "stop")
            sink.kill()
            await sink.wait()


async def _control(etc: Path, word: str) -> None:
    child = await asyncio.create_subprocess_exec("postfix", "-c", str(etc), word, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if await child.wait() != 0:
        raise RuntimeError(f"postfix {word} failed")


async def figures(scale: Scale) -> list[Figure]:
    if not is_there():
        return [Figure("Postfix (needs root and Debian's package)", 0.0, "messages/s", beside="left out")]
    found = await run(MESSAGES[scale])
    return [Figure("Postfix takes", found["taken"], "messages/s"), Figure("Postfix has relayed", found["left"], "messages/s")]


def main(words: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=4000)
    arguments = parser.parse_args(words)
    found = asyncio.run(run(arguments.messages))
    print(table("Postfix as a durable relay", [Figure(name, value, "messages/s") for name, value in found.items()]))
    return found


if __name__ == "__main__":
    main()
