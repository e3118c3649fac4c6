"""Unmistakable secrets in every secret setting, every way in which the far side may throw them back, and none found anywhere."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from yarl import URL

from rotord.settings.catalogue import keys
from tests.daemon.rig import Rig, running, wait_until
from tests.outbox_rows import add_fleet, insert
from tests.providers.test_smtp_tls import certificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncpg

APIS = ("mailgun", "sendgrid", "smtp2go")
PEM = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def canary(*where: str) -> str:
    return "canary." + ".".join(where) + ".aVeryLongSecret"


class Thrower:
    """An HTTP server that answers every request with what the request told it: in words, in JSON, in headers, and in pieces."""

    def __init__(self) -> None:
        self.requests = 0

    @asynccontextmanager
    async def listening(self, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        try:
            yield site._server.sockets[0].getsockname()[1]
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = (await request.read()).decode(errors="replace")[-2000:]
        told = f"{request.path_qs} {dict(request.headers)} {body}"
        shapes = [
            lambda: web.json_response({"message": told, "errors": [{"message": told}], "error": told}, status=401),
            lambda: web.json_response({"message": told, "errors": [{"message": told}], "data": {"error": told}}, status=500),
            lambda: web.json_response({"message": told, "errors": [{"message": told, "field": told}], "error": told}, status=400),
            lambda: web.Response(status=200, text='{"id": "' + told),
            lambda: web.Response(status=403, text=told, content_type="text/html"),
            lambda: web.json_response({"message": told}, status=429, headers={"Retry-After": "1"}),
            lambda: web.json_response(told, status=302, headers={"Location": "/" + told.replace("\r", "").replace("\n", "")[:200]}),
        ]
        self.requests += 1
        return shapes[self.requests % len(shapes)]()


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def environment(url: str, echo: int, tls: int, refused: int) -> dict[str, str]:
    """Settings as variables: each API at a server that echoes, at one whose certificate nobody knows, and at nobody's port."""
    places = {"echo": f"http://127.0.0.1:{echo}", "tls": f"https://127.0.0.1:{tls}", "gone": f"http://127.0.0.1:{refused}"}
    made = {
        "DATABASE__URL": str(URL(url).with_password(canary("database"))),
        "HTTP__ADMIN_TOKEN": canary("admin"),
        "HTTP__PUBLIC_URL": "https://rotor.example",
        "ALERTS__TELEGRAM__TOKEN": canary("telegram"),
        "ALERTS__TELEGRAM__CHAT_ID": "1",
        "ALERTS__TELEGRAM__BASE_URL": places["echo"],
        "ALERTS__SLACK__WEBHOOK_URL": f"{places['echo']}/{canary('slack')}",
        "DKIM__ACME__DOMAIN": "acme.example",
        "DKIM__ACME__SELECTOR": "s1",
        "DKIM__ACME__PRIVATE_KEY": PEM,
        "ENGINE__DRAIN_SECONDS": "3",
        "ENGINE__RETRY_FIRST_SECONDS": "1",
        "ENGINE__RETRY_MAX_SECONDS": "1",
    }
    for port, name in ((echo, "relay_echo"), (tls, "relay_tls"), (refused, "relay_gone")):
        relay = {"KIND": "smtp", "HOST": "127.0.0.1", "PORT": str(port), "TLS": "implicit" if name == "relay_tls" else "none"}
        relay |= {"USERNAME": "user", "PASSWORD": canary(name), "WEBHOOK_KEY": canary(name, "hook"), "COMMAND_TIMEOUT_SECONDS": "1"}
        relay["CONNECT_TIMEOUT_SECONDS"] = "1"
        made |= {f"PROVIDERS__{name.upper()}__{key}": value for key, value in relay.items()}
    for kind in APIS:
        for place, base_url in places.items():
            api = {"KIND": kind, "BASE_URL": base_url, "API_KEY": canary(kind, place), "WEBHOOK_KEY": canary(kind, place, "hook")}
            made |= {f"PROVIDERS__{kind.upper()}_{place.upper()}__{key}": value for key, value in api.items()}
    return {f"ROTORD_{name}": value for name, value in made.items()}


def spellings(settings: dict[str, str]) -> dict[str, str]:
    """Each secret as it might be found, by what it is."""
    found = {name: value for name, value in settings.items() if "canary." in value and not name.endswith(("URL", "DIR"))}
    found |= {"database": canary("database"), "slack": canary("slack"), "dkim": PEM.splitlines()[5]}
    found |= {f"{name}, Basic": aiohttp.encode_basic_auth("api", value).removeprefix("Basic ") for name, value in list(found.items())}
    plain = {f"{name}, AUTH": base64.b64encode(f"\0user\0{value}".encode()).decode() for name, value in list(found.items())}
    return found | plain


async def everything(db: asyncpg.Connection) -> str:
    """Every row of every table of ours, as text."""
    tables = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'rotord'")
    rows = [await db.fetch(f'SELECT t::text AS line FROM rotord."{table["tablename"]}" AS t') for table in tables]
    return "\n".join(row["line"] for of_table in rows for row in of_table)


def test_every_secret_setting_holds_a_canary() -> None:
    names = environment("postgresql://u@127.0.0.1/x", 1, 2, 3)
    kinds = {name.split("__")[1]: value for name, value in names.items() if name.endswith("__KIND")}
    held = {(kinds.get(name.split("__")[1], ""), name.split("__")[-1].lower()) for name in names}
    unset = [".".join(key.where) for key in keys() if key.is_secret and (key.kind, key.where[-1]) not in held and key.kind != "sandbox"]

    assert unset == []


@pytest.mark.timeout(60)
async def test_no_secret_is_in_a_log_an_output_a_metric_or_a_row(
    database_url: str, db: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thrower = Thrower()
    await add_fleet(db)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate(tmp_path, "canaries", "127.0.0.9"))
    async with thrower.listening() as echo, thrower.listening(context) as tls:
        settings = environment(database_url, echo, tls, free_port())
        providers = sorted({name.split("__")[1].lower() for name in settings if name.endswith("__KIND")})
        await db.execute("UPDATE rotord.domains SET providers = $1", providers)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        port = free_port()
        rig = Rig(database_url, tmp_path, "", environment={"ROTORD_HTTP__LISTEN": f"127.0.0.1:{port}"})
        for _ in range(30):
            await insert(db)
        async with running(rig):
            assert await wait_until(db, "count(*) >= 10 FROM rotord.attempts WHERE outcome IS NOT NULL", 20)
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                outputs = [await answer.text()]
            asked = (["check", "--no-dns"], ["status"], ["provider", "sync", "apply"], ["why", "message", "1"])
            async with asyncio.TaskGroup() as group:
                told = [group.create_task(rig.command(*words)) for words in asked]
            outputs += [str(task.result()[1]) for task in told]
            assert await rig.kill(signal.SIGTERM) == 0
        monkeypatch.setenv("ROTORD_PROVIDERS__MAILGUN_ECHO__KIND", "no-such-kind")
        monkeypatch.setenv("ROTORD_PROVIDERS__RELAY_ECHO__USERNAME", "")
        monkeypatch.setenv("ROTORD_DATABASE__URL", f"mysql://u:{canary('database')}@127.0.0.1/x")
        code, said = await rig.command("check")
        outputs.append(str(said))
    haystacks = {"log": rig.log, "outputs": "\n".join(outputs), "rows": await everything(db)}

    assert code == 2
    assert thrower.requests > 10
    assert "401" in haystacks["log"] + haystacks["outputs"]
    assert all(len(haystack) > 1000 for haystack in haystacks.values())
    found = [(what, where) for what, secret in spellings(settings).items() for where, text in haystacks.items() if secret in text]
    assert found == []
    assert "canary." not in os.linesep.join(haystacks.values())
