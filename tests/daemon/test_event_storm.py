"""Events in any order, three in ten twice, the daemon killed again and again: after the provider's retries each is there exactly once."""

import asyncio
import base64
import json
import os
import random
import socket
import time

import aiohttp
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from outbox_rows import add_fleet, insert, make_uncertain

from rotord.webhooks import sendgrid
from tests.daemon import great_storm
from tests.daemon.rig import Rig, running, wait_until

PRIVATE = ec.generate_private_key(ec.SECP256R1())
DER = PRIVATE.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
TOML = f"""
[providers.sg]
kind = "sendgrid"
base_url = "http://127.0.0.1:9"
api_key = "SG.x"
webhook_key = "{base64.b64encode(DER).decode()}"
"""
#: what happens to a message, and what its delivery is in the end
LIVES = ((("processed", "delivered", "open"), "delivered"), (("processed", "deferred", "bounce"), "bounced"),
         (("deferred", "delivered", "spamreport"), "complained"), (("processed", "deferred"), "deferred"))  # fmt: skip
A_BATCH = 20


def signed(items):
    body, at = json.dumps(items).encode(), str(int(time.time()))
    signature = PRIVATE.sign(at.encode() + body, ec.ECDSA(hashes.SHA256()))
    return body, {sendgrid.SIGNATURE: base64.b64encode(signature).decode(), sendgrid.TIMESTAMP: at}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


async def deliver(url, batches):
    """As the provider does: again and again until a post is answered 2xx."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        while batches:
            body, headers = signed(batches.pop())
            for _ in range(600):
                try:
                    async with session.post(url, data=body, headers=headers) as answer:
                        if answer.status < 300:
                            break
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.1)
            else:
                raise AssertionError("never taken")


async def storm(db, url, folder, messages, kills):
    await add_fleet(db)
    chance = random.Random(7)
    items, expected = [], {}
    for number in range(messages):
        message = await insert(db, recipient=f"r{number}@example.org")
        attempt = await make_uncertain(db, message, provider="sg")
        names, expected[message] = LIVES[number % len(LIVES)]
        items += [
            {"event": name, "email": f"r{number}@example.org", "timestamp": int(time.time()) - 100, "sg_message_id": f"m{number}",
             "rotord_attempt": str(attempt), "reason": "550 5.1.1 no such user", "type": "bounce"}
            for name in names
        ]  # fmt: skip
    told = len(items)
    items += chance.sample(items, told * 3 // 10)
    chance.shuffle(items)
    batches = [items[n : n + A_BATCH] for n in range(0, len(items), A_BATCH)]
    port = free_port()
    rig = Rig(url, folder, TOML, environment={"ROTORD_HTTP__LISTEN": f"127.0.0.1:{port}"})
    async with running(rig), asyncio.TaskGroup() as group:
        posting = [group.create_task(deliver(f"http://127.0.0.1:{port}/webhooks/sg", batches)) for _ in range(4)]
        for n in range(kills):
            assert await wait_until(db, f"(SELECT count(*) FROM rotord.provider_posts) > {n}", 40)
            await rig.kill()
            await rig.start()
        await asyncio.wait(posting)
        assert await wait_until(
            db, "NOT EXISTS (SELECT FROM rotord.provider_posts WHERE folded_at IS NULL) AND NOT EXISTS (SELECT FROM rotord.event_waits)", 50
        ), rig.log[-3000:]
    assert await db.fetchval("SELECT count(*) FROM rotord.events") == told
    assert await db.fetchval("SELECT count(DISTINCT (outbox_id, kind)) FROM rotord.events") == told
    rows = await db.fetch("SELECT id, status, delivery FROM rotord.messages")
    assert {row["id"]: row["delivery"] for row in rows} == expected
    assert {row["status"] for row in rows} == {"sent"}  # uncertain until an event told
    suppressed = await db.fetchval("SELECT count(DISTINCT recipient) FROM rotord.suppressions WHERE client = 'acme'")
    assert suppressed == sum(word in {"bounced", "complained"} for word in expected.values())


@pytest.mark.timeout(180)
async def test_a_short_storm_with_a_kill(db, database_url, tmp_path):
    await storm(db, database_url, tmp_path, messages=80, kills=1)


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_a_long_storm_with_many_kills(db, database_url, tmp_path):
    await storm(db, database_url, tmp_path, messages=3000, kills=8)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_a_great_storm_in_which_the_database_ends_too(tmp_path):
    await great_storm.main(int(os.environ.get("ROTORD_STORM_EVENTS", "60000")), 4.0, tmp_path)
