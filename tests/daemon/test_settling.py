"""Three APIs that lose answers, before and after they have taken the mail: look-ups settle every message, none is sent twice."""

import os
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, running, wait_until
from tests.doubles.http_api import ApiDouble, Fault
from tests.doubles.mailgun import MailgunDouble
from tests.doubles.sendgrid import SendgridDouble
from tests.doubles.smtp2go import Smtp2goDouble

COUNT = 400
DOMAINS = [f"d{number}.acme.example" for number in range(3)]
KINDS = {"mailgun": MailgunDouble, "sendgrid": SendgridDouble, "smtp2go": Smtp2goDouble}
TROUBLE = ((0.05, Fault(cut="after", accepts=True)), (0.05, Fault(status=500, accepts=True)), (0.02, Fault(cut="after")))


def provider(kind: str, double: ApiDouble) -> str:
    """The breaker would leave a provider that fails 12 in 100 alone now and then; what is asked here is not how fast."""
    return (
        f'[providers.{kind}]\nkind = "{kind}"\nbase_url = "{double.url}"\napi_key = "{double.key}"\n'
        "timeout_seconds = 5\nlook_ups_per_minute = 6000\n"
    )


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [0, 1])
async def test_every_message_is_settled_or_held_and_none_is_sent_twice(
    database_url: str, db: asyncpg.Connection, tmp_path: Path, kills: int
) -> None:
    await Fleet().add(db, "acme", domains=3, addresses=10, providers=tuple(KINDS))
    async with AsyncExitStack() as stack:
        doubles = {}
        for seed, (kind, double) in enumerate(KINDS.items()):
            options = {"domains": DOMAINS} if kind == "mailgun" else {}
            doubles[kind] = await stack.enter_async_context(double(tmp_path, seed=seed, lag_s=1.0, **options))
            doubles[kind].chances = TROUBLE
        toml = "[lease]\nttl_seconds = 5\n[reconcile]\ngrace_seconds = 2\n" + "".join(map(provider, doubles, doubles.values()))
        rig = Rig(database_url, tmp_path, toml)
        began = time.monotonic()
        async with running(rig):
            await insert_rows(db, "acme", COUNT)
            for _ in range(kills):
                begun = await db.fetchval("SELECT count(*) FROM rotord.attempts")
                assert await wait_until(db, f"count(*) > {begun} + 40 FROM rotord.attempts", 60)
                await rig.kill()
                await rig.start()
            # What no look-up ever shows was not taken: it is asked after again and again, and held.
            left = "EXISTS (SELECT FROM rotord.queue q WHERE q.state <> 'uncertain' OR coalesce(q.look_ups, 0) < 3)"
            assert await wait_until(db, f"NOT {left}", 120)
            took = time.monotonic() - began
            assert await rig.stop() == 0
        truth = Counter(line["message_id"] for double in doubles.values() for line in double.truth_lines())
    rows = await db.fetch("SELECT message_id, status FROM rotord.messages")
    status = {row["message_id"]: row["status"] for row in rows}
    looked_up = await db.fetchval("SELECT count(*) FROM rotord.attempts WHERE reply LIKE 'found by its look-up%'")
    held = [message_id for message_id, word in status.items() if word == "uncertain"]
    print(f"{COUNT} messages in {took:.0f} s, {looked_up} settled by look-up, {len(held)} held, load {os.getloadavg()[0]:.1f}")

    assert len(rows) == COUNT
    assert set(truth.values()) == {1}
    assert {message_id for message_id, word in status.items() if word == "sent"} == set(truth)
    assert set(held).isdisjoint(truth)
    assert looked_up > 0
