"""Every statement of rotord.db is one that the schema understands, on the shipped server and on the oldest that is promised."""

import asyncio
import importlib
import pkgutil
import re
import subprocess
from pathlib import Path

import asyncpg
import pytest

import rotord.db
from rotord.embedded import EmbeddedPostgres
from rotord.embedded.account import choose_account

SCHEMA = Path(__file__).parents[2] / "schema.sql"
OLDEST = Path("/usr/lib/postgresql/15/bin")
VERB = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|VALUES|LOCK|NOTIFY)\b")


def statements():
    """Every module-level constant in capitals that begins like a statement."""
    found = {}
    for module in pkgutil.iter_modules(rotord.db.__path__):
        for name, value in vars(importlib.import_module(f"rotord.db.{module.name}")).items():
            if isinstance(value, str) and name.isupper() and VERB.match(value):
                found[f"{module.name}.{name}"] = value
    return found


async def refused(url):
    """The statements that cannot be prepared on this database, with the server's reason."""
    connection = await asyncpg.connect(url)
    try:
        reasons = {}
        for name, statement in statements().items():
            try:
                await connection.prepare(statement)
            except asyncpg.PostgresError as error:
                reasons[name] = str(error)
        return reasons
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def oldest_url(tmp_path_factory):
    """A throwaway server of Debian's version; an embedded server runs the version that its data was made by."""
    if not OLDEST.exists():
        pytest.skip("Debian's postgresql-15 is not installed")
    state = tmp_path_factory.mktemp("oldest")
    with asyncio.Runner() as runner:
        account = runner.run(choose_account(state))
        account.make_dir(account.home)
        data = account.home / "data"
        subprocess.run(
            [*account.prefix, OLDEST / "initdb", f"--pgdata={data}", "--username=rotord", "--auth=trust", "--encoding=UTF8",
             "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
            check=True, capture_output=True, timeout=60, cwd="/",
        )  # fmt: skip
        server = EmbeddedPostgres(state, settings={"fsync": "off", "full_page_writes": "off"})
        url = runner.run(server.start())
        try:
            yield url
        finally:
            runner.run(server.stop())


def test_the_collection_sees_the_statements_of_every_module():
    modules = {name.partition(".")[0] for name in statements()}

    expected = {"apps", "bulk", "control", "explain", "keys", "lease", "ledger", "migrate", "queue", "reports", "senders", "settle"}
    assert expected <= modules
    assert {"queue.LANES", "queue.BEGIN", "settle.SETTLE", "senders.CHANGES", "senders.MARK"} <= statements().keys()


async def test_every_statement_can_be_prepared(database_url):
    assert await refused(database_url) == {}


async def test_every_statement_can_be_prepared_on_the_oldest_server(oldest_url):
    connection = await asyncpg.connect(oldest_url)
    try:
        assert connection.get_server_version().major == 15
        await connection.execute(SCHEMA.read_text())
    finally:
        await connection.close()

    assert await refused(oldest_url) == {}


async def test_a_statement_that_names_no_column_would_be_seen(db):
    with pytest.raises(asyncpg.UndefinedColumnError):
        await db.prepare("SELECT no_such_column FROM rotord.queue")
