"""From the configuration file to a message at each API: what is set is what is used."""

from __future__ import annotations

from contextlib import AsyncExitStack

from rotord.core.model import Outcome
from rotord.daemon import build_providers
from rotord.settings import load
from tests.providers.http_support import KINDS, double
from tests.providers.shapes import envelope_of
from tests.providers.support import running, send

TABLE = """
[providers.main_{kind}]
kind = "{kind}"
api_key = "{server.key}"
base_url = "{server.url}/"
max_in_flight = 5
timeout_seconds = 20
"""


async def test_three_configured_providers_send(tmp_path):
    async with AsyncExitStack() as stack:
        servers = {kind: await stack.enter_async_context(double(kind, tmp_path)) for kind in KINDS}
        path = tmp_path / "rotord.toml"
        path.write_text("".join(TABLE.format(kind=kind, server=server) for kind, server in servers.items()))
        settings = load(path, {})
        providers = build_providers(settings)

        assert {name: (provider.kind, provider.attempt_timeout_s) for name, provider in providers.items()} == {
            f"main_{kind}": (kind, 20.0) for kind in KINDS
        }
        for kind, server in servers.items():
            provider = await stack.enter_async_context(running(providers[f"main_{kind}"]))
            assert (await send(provider, envelope_of("plain", 3))).outcome is Outcome.ACCEPTED
            assert provider.status().capacity == 5
            assert server.truth() == [3]

    assert "the-right-key" not in repr(settings)
