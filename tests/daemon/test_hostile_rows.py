"""Rows from before a rule, and relays that answer with rubbish: each such message fails alone, with a sentence."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from rotord.core.replies import Phase
from tests.daemon.fleets import Fleet, insert_rows
from tests.daemon.rig import Rig, Truth, relay, running, wait_until
from tests.daemon.scenes import insert, sending
from tests.doubles.smtp_server import ScriptedServer

RULES = """
SELECT conname
  FROM pg_constraint
 WHERE conrelid = 'rotord.outbox'::regclass AND contype = 'c'
"""
FILE = '[{"filename": "a.txt", "content_type": "text/plain", "content_base64": "%s"}]'
# What is wrong with the row, and a word of its last_error.
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "header name": ({"headers": '{"Bad Name": "x"}'}, "header"),
    "owned header": ({"headers": '{"Bcc": "victim@recipients.example"}'}, "header"),
    "header value": ({"headers": '{"X-A": "x\\r\\nBcc: victim@recipients.example"}'}, "header"),
    "headers list": ({"headers": '["X-A"]'}, "headers"),
    "headers number": ({"headers": "7"}, "headers"),
    "header number": ({"headers": '{"X-A": 1}'}, "header"),
    "subject line": ({"subject": "s\r\nBcc: victim@recipients.example"}, "subject"),
    "subject separator": ({"subject": "s\u2028Bcc: victim@recipients.example"}, "subject"),
    "two recipients": ({"recipient": "a@recipients.example,victim@recipients.example"}, "recipient"),
    "recipient line": ({"recipient": "a@recipients.example\r\nRCPT TO:<victim@recipients.example>"}, "recipient"),
    "no recipient": ({"recipient": "nobody"}, "recipient"),
    "name line": ({"recipient_name": "a\r\nBcc: victim@recipients.example"}, "name"),
    "reply line": ({"reply_to": "a@recipients.example\r\nBcc: victim@recipients.example"}, "reply"),
    "base64": ({"attachments": FILE % "%%%"}, "base64"),
    "attachments object": ({"attachments": "{}"}, "attachments"),
    "attachments text": ({"attachments": '"a"'}, "attachments"),
    "attachments numbers": ({"attachments": "[1]"}, "attachment"),
    "attachment type": ({"attachments": FILE.replace("text/plain", "text/plain\\r\\nX: y") % "QQ=="}, "content"),
    "attachment name": ({"attachments": FILE.replace("a.txt", "a\\r\\nX: y") % "QQ=="}, "file name"),
    "no body": ({"body_text": None}, "body"),
    "metadata list": ({"metadata": "[1]"}, "metadata"),
    "kind": ({"kind": "junk"}, "kind"),
    "sender": ({"sender": "a@d0.acme.example,b@d0.acme.example"}, "sender"),
}


@pytest.mark.timeout(90)
async def test_a_row_from_before_a_rule_fails_alone_and_says_why(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await Fleet().add(db, "acme", domains=1, addresses=5)
    for row in await db.fetch(RULES):
        await db.execute(f"ALTER TABLE rotord.outbox DROP CONSTRAINT {row['conname']}")
    ids = {}
    for name, (columns, _) in HOSTILE.items():
        ids[await insert(db, "acme", **columns)] = name
        await insert_rows(db, "acme", 1)
    # No fault of its own: a stream may get its addresses later.
    waits = await insert(db, "acme", stream="No Such")
    good = len(HOSTILE)
    async with sending(database_url, tmp_path) as (rig, one):
        over = f"count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'sending') AND id <> {waits}"
        done = await wait_until(db, over, 30)
        await insert_rows(db, "acme", 1)  # it still works
        last = await wait_until(db, over, 10)
        _, why = await rig.command("why", "message", str(waits), "--json")
        assert rig.daemon is not None
        alive = rig.daemon.returncode is None
        code = await rig.stop() if alive else rig.daemon.returncode
        truth, seen = Truth.of(one), one.seen()
    rows = await db.fetch("SELECT id, status, last_error FROM rotord.messages WHERE id = ANY ($1)", list(ids))
    ended = {ids[row["id"]]: (row["status"], row["last_error"]) for row in rows}
    for name, (status, error) in ended.items():
        print(f"{name}: {status}: {error}")

    assert (done, last, alive, code) == (True, True, True, 0), rig.log[-2000:]
    assert {name: status for name, (status, _) in ended.items()} == dict.fromkeys(HOSTILE, "failed")
    assert {name: error for name, (_, error) in ended.items() if HOSTILE[name][1] not in (error or "").lower()} == {}
    assert sum(truth.rows.values()) == len(seen) == good + 1
    assert (why["status"], why["gate"]) == ("queued", "no_address")
    assert {rcpt for entry in seen for rcpt in entry["rcpt"]} == {"r1@recipients.example"}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"550 5.1.1 no\x00such\xff\xfe user\x1b[31m\r\n", "failed"),
        (b"550-5.7.1 " + b"x" * 400 + b"\r\n550 5.7.1 " + b"y" * 400 + b"\r\n", "failed"),
        (b"550-5.7.1 line\r\n" * 200 + b"550 5.7.1 line\r\n", "failed"),
        (b"250 2.0.0 taken as \x00\xff\xfe\r\n", "sent"),
    ],
    ids=["rubbish", "long lines", "many lines", "rubbish accepted"],
)
@pytest.mark.timeout(60)
async def test_a_relays_rubbish_is_stored_cleaned(
    database_url: str, db: asyncpg.Connection, tmp_path: Path, answer: bytes, status: str
) -> None:
    await Fleet().add(db, "acme", domains=1, addresses=1)
    await insert_rows(db, "acme", 3)
    async with (
        ScriptedServer({Phase.FINAL_DOT: answer}) as server,
        running(Rig(database_url, tmp_path, relay("relay", server.port, 1))) as rig,
    ):
        assert await wait_until(db, f"count(*) = 3 FROM rotord.messages WHERE status = '{status}'", 20), rig.log[-2000:]
        assert await asyncio.wait_for(rig.stop(), 30) == 0
        replies = [row["reply"] for row in await db.fetch("SELECT reply FROM rotord.attempts")]

    assert len(server.messages) == 3
    assert len(replies) == 3
    for reply in replies:
        assert len(reply) <= 2000
        assert reply.isprintable()
