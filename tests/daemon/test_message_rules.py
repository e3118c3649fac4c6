"""What a row may ask for, by the receiver's word: expiry, cancel, priority, send_after, keys, suppressions, windows, the rehearsal."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from tests.daemon.fleets import Fleet
from tests.daemon.policy_receiver import PolicyReceiver, listening
from tests.daemon.rig import Rig, relay, running, wait_until
from tests.daemon.scenes import first_accepted, insert, sending

OVER = "count(*) = 0 FROM rotord.messages WHERE status IN ('queued', 'sending')"


async def _status(db: asyncpg.Connection, ids: dict[str, int]) -> dict[str, str]:
    rows = await db.fetch("SELECT id, status FROM rotord.messages WHERE id = ANY ($1)", list(ids.values()))
    by_id = {row["id"]: row["status"] for row in rows}
    return {name: by_id[one] for name, one in ids.items()}


async def _now(db: asyncpg.Connection) -> datetime:
    return await db.fetchval("SELECT clock_timestamp()")


@pytest.mark.timeout(60)
async def test_expiry_cancel_and_send_after_are_obeyed(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    await fleet.add(db, "acme", domains=1, addresses=2)
    await fleet.add(db, "dry", domains=1, addresses=1, per_hour=(None, None, 0))
    async with sending(database_url, tmp_path, latency_ms="1500") as (_, one):
        await first_accepted(db, "acme")
        now = await _now(db)
        ids = {
            "expired before": await insert(db, "acme", expires_at=now - timedelta(seconds=1)),
            "expires while it waits": await insert(db, "dry", expires_at=now + timedelta(seconds=1)),
            "not expired": await insert(db, "acme", expires_at=now + timedelta(hours=1)),
            "later": await insert(db, "acme", send_after=now + timedelta(seconds=2)),
            "much later": await insert(db, "acme", send_after=now + timedelta(hours=1)),
            "cancelled from the start": await insert(db, "acme", cancelled_at=now),
            "cancelled while it waits": await insert(db, "dry"),
            "cancelled on the wire": await insert(db, "acme"),
        }
        assert await wait_until(db, f"status = 'sending' FROM rotord.messages WHERE id = {ids['cancelled on the wire']}", 5)
        called_back = [ids["cancelled while it waits"], ids["cancelled on the wire"]]
        await db.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = ANY ($1)", called_back)
        assert await wait_until(db, "count(*) = 1 FROM rotord.messages WHERE status IN ('queued', 'sending')", 15)
        later_at = await db.fetchval("SELECT began_at FROM rotord.attempts WHERE outbox_id = $1", ids["later"])
        seen = len(one.seen())
        status = await _status(db, ids)

    assert status == {
        "expired before": "expired",
        "expires while it waits": "expired",
        "not expired": "sent",
        "later": "sent",
        "much later": "queued",
        "cancelled from the start": "cancelled",
        "cancelled while it waits": "cancelled",
        "cancelled on the wire": "sent",  # it was too late
    }
    assert seen == 1 + 3
    assert 0 <= (later_at - now).total_seconds() - 2 <= 0.5 + 1.0


@pytest.mark.timeout(60)
async def test_a_message_cancelled_on_the_wire_and_refused_for_now_is_cancelled(
    database_url: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await Fleet().add(db, "acme", domains=1, addresses=2)
    policy = PolicyReceiver(on_rcpt=lambda _sender, _recipient: "451 4.3.0 try later")
    toml = "[engine]\nretry_first_seconds = 1\n"
    async with listening(policy) as one, running(Rig(database_url, tmp_path, toml + relay("relay", one.port, 3))):
        message = await insert(db, "acme")
        assert await wait_until(db, f"attempts = 1 AND status = 'queued' FROM rotord.messages WHERE id = {message}", 10)
        await db.execute("UPDATE rotord.outbox SET cancelled_at = now() WHERE id = $1", message)
        assert await wait_until(db, OVER, 5)
        status = await _status(db, {"it": message})
        tries = len(policy.given)
        await asyncio.sleep(1.5)

    assert status == {"it": "cancelled"}
    assert len(policy.given) == tries


@pytest.mark.timeout(60)
async def test_priority_goes_before_age_and_transactional_before_both(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await Fleet().add(db, "acme", domains=1, addresses=2)
    for priority in (-5, 0, 7, 3, 1000, 0):
        await insert(db, "acme", priority=priority, headers=f'{{"X-Row": "{priority}"}}')
    await insert(db, "acme", kind="transactional", headers='{"X-Row": "transactional"}')
    async with sending(database_url, tmp_path, connections=1) as (_, one):
        assert await wait_until(db, OVER, 20)
        rows = [entry["row"] for entry in one.seen()]

    assert rows == ["transactional", "1000", "7", "3", "0", "0", "-5"]


@pytest.mark.timeout(60)
async def test_a_key_is_sent_once_for_each_client(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    for client in ("acme", "other"):
        await fleet.add(db, client, domains=1, addresses=2)
    again = """
    INSERT INTO rotord.outbox (client, recipient, subject, body_text, idempotency_key)
    VALUES ($1, 'r@recipients.example', 's', 'b', 'k')
    ON CONFLICT DO NOTHING
    """
    async with sending(database_url, tmp_path) as (_, one):
        for _ in range(3):
            for client in ("acme", "other"):
                await db.execute(again, client)
            assert await wait_until(db, OVER, 20)
        seen = len(one.seen())

    assert seen == 2


@pytest.mark.timeout(60)
async def test_suppressions_hold_for_whom_and_what_they_say(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    for client in ("acme", "other"):
        await fleet.add(db, client, domains=1, addresses=2)
    for client, recipient, reason in (
        ("acme", "Unsubscribed@Recipients.Example", "unsubscribe"),
        ("acme", "complained@recipients.example", "complaint"),
        ("acme", "bounced@recipients.example", "hard_bounce"),
        ("acme", "manual@recipients.example", "manual"),
        (None, "nobody@recipients.example", "manual"),
    ):
        await db.execute("INSERT INTO rotord.suppressions (client, recipient, reason) VALUES ($1, $2, $3)", client, recipient, reason)
    ids = {}
    for client in ("acme", "other"):
        for kind in ("bulk", "transactional"):
            for who in ("UNSUBSCRIBED", "Complained", "bounced", "manual", "Nobody", "free"):
                ids[f"{client} {kind} {who.lower()}"] = await insert(db, client, kind=kind, recipient=f"{who}@Recipients.example")
    async with sending(database_url, tmp_path) as (_, one):
        assert await wait_until(db, OVER, 20)
        seen = len(one.seen())
    status = await _status(db, ids)
    suppressed = {name for name, word in status.items() if word == "suppressed"}

    assert suppressed == {
        "acme bulk unsubscribed", "acme bulk complained", "acme bulk bounced", "acme bulk manual", "acme bulk nobody",
        "acme transactional bounced", "acme transactional manual", "acme transactional nobody",
        "other bulk nobody", "other transactional nobody",
    }  # fmt: skip
    assert {status[name] for name in status.keys() - suppressed} == {"sent"}
    assert seen == len(ids) - len(suppressed)


@pytest.mark.timeout(60)
async def test_a_rehearsal_sends_to_its_one_recipient_alone(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await Fleet().add(db, "acme", domains=1, addresses=2)
    async with sending(database_url, tmp_path, '[engine]\nredirect_all_to = "qa@agency.example"\n') as (_, one):
        for number in range(10):
            await insert(db, "acme", recipient=f"r{number}@recipients.example", recipient_name="R", subject=f"Hello {number}")
        assert await wait_until(db, OVER, 20)
        seen = one.seen()

    assert {rcpt for entry in seen for rcpt in entry["rcpt"]} == {"qa@agency.example"}
    assert len(seen) == 10
    assert all(f"r{entry['subject'].split()[-1]}@recipients.example" in entry["subject"] or "Hello" in entry["subject"] for entry in seen)
    assert not any(entry["subject"].startswith("Hello") for entry in seen)


@pytest.mark.timeout(60)
async def test_a_window_holds_bulk_and_lets_transactional_pass(database_url: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    fleet = Fleet()
    now = (await _now(db)).astimezone(UTC)
    # The days that are not today, nor tomorrow should midnight be near.
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    far = days[(now.weekday() + 3) % 7]
    await fleet.add(db, "closed", domains=1, addresses=2, settings=f"sending_window = '{far} 08:00-19:00'")
    await fleet.add(db, "open", domains=1, addresses=2, settings="sending_window = 'daily 00:00-24:00'")
    ids = {f"{client} {kind}": await insert(db, client, kind=kind) for client in ("closed", "open") for kind in ("bulk", "transactional")}
    async with sending(database_url, tmp_path) as (rig, _):
        assert await wait_until(db, "count(*) = 3 FROM rotord.messages WHERE status = 'sent'", 20)
        status = await _status(db, ids)
        _, why = await rig.command("why", "message", str(ids["closed bulk"]), "--json")

    assert status == {"closed bulk": "queued", "closed transactional": "sent", "open bulk": "sent", "open transactional": "sent"}
    assert why["gate"] == "window"
    assert far in why["sentence"]
