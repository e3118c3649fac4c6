"""The daemon exchanges suppressions with an account by itself, through a kill -9; in a rehearsal it asks nothing."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet
from tests.daemon.rig import Rig, running, wait_until
from tests.doubles.mailgun import MailgunDouble
from tests.doubles.suppression_lists import MailgunLists

DOMAIN = "d0.acme.example"
TOML = """
[lease]
ttl_seconds = 5
[engine]
redirect_all_to = "{redirect}"
[providers.mailgun]
kind = "mailgun"
base_url = "{url}"
api_key = "{key}"
"""

# A term waits a minute before it reads lists, and then asks every 2 s.
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


@pytest.fixture
async def there(tmp_path, db):
    await Fleet().add(db, "acme", domains=1, addresses=3, providers=("mailgun",))
    await db.execute("INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ('acme', 'ours@example.org', 'manual')")
    lists = MailgunLists()
    for number in range(1500):  # two pages
        lists.put(DOMAIN, "bounces", f"r{number:04}@example.org")
    async with MailgunDouble(tmp_path, domains=(DOMAIN,), extra=[lists]) as double:
        yield lists, double


async def test_a_kill_in_the_midst_of_a_pass_costs_none_of_it(there, db: asyncpg.Connection, database_url: str, tmp_path: Path):
    lists, double = there
    rig = Rig(database_url, tmp_path, TOML.format(url=double.url, key=double.key, redirect=""))
    async with running(rig) as one:
        assert await wait_until(db, "count(*) >= 1000 FROM rotord.suppressions", 120)
        await one.kill()
        await one.start()
        assert await wait_until(db, "count(*) = 3 FROM rotord.list_pulls WHERE passed_at IS NOT NULL", 180)
        assert await wait_until(db, "count(*) = 1 FROM rotord.list_pushes WHERE pushed > 0 AND client = 'acme' AND reason = 'manual'", 60)

    assert await db.fetchval("SELECT count(*) FROM rotord.suppressions WHERE source = 'list of mailgun'") == 1500
    assert len(lists.lists[DOMAIN]["bounces"]) == 1501
    assert "ours@example.org" in lists.lists[DOMAIN]["bounces"]
    assert "list_not_read" not in rig.log


async def test_a_rehearsal_asks_nothing(there, db: asyncpg.Connection, database_url: str, tmp_path: Path):
    lists, double = there
    rig = Rig(database_url, tmp_path, TOML.format(url=double.url, key=double.key, redirect="qa@agency.example"))
    async with running(rig):
        assert await wait_until(db, "count(*) = 1 FROM rotord.lease", 30)
        await asyncio.sleep(70)

    assert lists.requests == []
    assert await db.fetchval("SELECT count(*) FROM rotord.suppressions") == 1
