"""`rotord(...)`: a command run in this process against the test's database; it gives its exit code, output and errors."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from outbox_rows import add_fleet

from rotord.cli import main


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
async def rotord(db, database_url, monkeypatch, capsys, tmp_path) -> Callable[..., Any]:
    """Commands have an event loop of their own, so each runs in a thread beside the test's."""
    await add_fleet(db)
    config = tmp_path / "rotord.toml"
    config.write_text("[providers.relay]\nkind = 'smtp'\nhost = '127.0.0.1'\n[providers.backup]\nkind = 'sandbox'\n")
    monkeypatch.setenv("ROTORD_CONFIG", str(config))
    monkeypatch.setenv("ROTORD_DATABASE__URL", database_url)
    monkeypatch.setenv("ROTORD_HTTP__LISTEN", "127.0.0.1:0")
    monkeypatch.chdir(tmp_path)

    async def run(*words: str) -> Done:
        capsys.readouterr()
        code = await asyncio.to_thread(main, words)
        return Done(code, *capsys.readouterr())

    return run
