"""A site over the test's database, with two clients and a message each."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.web.site import Site, running_site

FLEET = """
INSERT INTO rotord.clients (slug, name) VALUES ('acme', 'Acme <GmbH> & Co'), ('plain', '');
INSERT INTO rotord.domains (name, client) VALUES ('acme.example', 'acme'), ('plain.example', 'plain');
INSERT INTO rotord.addresses (email, domain) VALUES ('a@acme.example', 'acme.example'), ('p@plain.example', 'plain.example');
"""
MESSAGE = "INSERT INTO rotord.outbox (client, recipient, subject, body_text) VALUES ($1, $2, 's', 'b') RETURNING id"


@pytest.fixture
async def site(db: asyncpg.Connection, database_url: str) -> AsyncIterator[Site]:
    await db.execute(FLEET)
    async with running_site(database_url) as site:
        yield site


@pytest.fixture
async def message(site: Site, db: asyncpg.Connection) -> int:
    """A message of acme to Jane.Doe@Example.org."""
    return await db.fetchval(MESSAGE, "acme", "Jane.Doe@Example.org")
