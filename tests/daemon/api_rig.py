"""API doubles as processes beside the daemon, and the configuration that names them; the truth is what they wrote."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.process import KINDS


@dataclass(slots=True)
class DoubleProcess:
    """One of them, by its provider's name."""

    name: str
    kind: str
    process: asyncio.subprocess.Process
    port: int
    log: Path

    def seen(self) -> list[dict[str, Any]]:
        """Every mail that it has, in order."""
        return [json.loads(line) for line in self.log.read_bytes().splitlines()]

    def order(self, **what: Any) -> None:
        """As tests/doubles/process.py says."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")

    def toml(self, extra: str = "", max_in_flight: int = 4) -> str:
        """Its part of the configuration."""
        base_url = f"http://127.0.0.1:{self.port}" + ("/v3" if self.kind == "smtp2go" else "")
        return (
            f'[providers.{self.name}]\nkind = "{self.kind}"\nbase_url = "{base_url}"\napi_key = "{KINDS[self.kind].key}"\n'
            f"max_in_flight = {max_in_flight}\nlook_ups_per_minute = 6000\n{extra}\n"
        )


@asynccontextmanager
async def api_double(folder: Path, name: str, kind: str, **options: Any) -> AsyncIterator[DoubleProcess]:
    """Runs it until the end of the block."""
    place = folder / name
    place.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.doubles.process", kind, str(place), json.dumps(options),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        yield DoubleProcess(name, kind, process, port, place / f"{KINDS[kind].__name__}.jsonl")
    finally:
        process.kill()
        await process.wait()


def rows_of(*receivers: Any) -> Counter[str]:
    """How often each row was taken, whoever took it."""
    return Counter(entry["row"] for one in receivers for entry in one.seen() if entry.get("row"))
