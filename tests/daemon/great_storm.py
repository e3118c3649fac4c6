"""A storm of events at full size: posts as providers send them, while the daemon is killed and its PostgreSQL ended in the middle.

    python -m tests.daemon.great_storm [--events 1000000] [--every 8] [--folder DIR]

Messages told of in any order, three events in ten twice, some posts a second time as they were; a poster comes again until it is
answered 2xx. The daemon is killed a few seconds after it answers, again and again over the first two thirds, the database ended twice by
SIGQUIT (an immediate shutdown: it recovers from its log); the last third runs through, so that memory can be watched.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import random
import signal
import tempfile
import time
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import aiohttp
import asyncpg
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rotord.db import migrate
from rotord.embedded import EmbeddedPostgres
from rotord.webhooks import sendgrid
from tests.daemon.rig import Rig, running, wait_until
from tests.db.test_stats import KEPT, RECOUNT

PRIVATE = ec.generate_private_key(ec.SECP256R1())
DER = PRIVATE.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
TOML = f"""
[lease]
ttl_seconds = 5
[providers.sg]
kind = "sendgrid"
base_url = "http://127.0.0.1:9"
api_key = "SG.x"
webhook_key = "{base64.b64encode(DER).decode()}"
[providers.mg]
kind = "mailgun"
base_url = "http://127.0.0.1:9"
api_key = "x"
webhook_key = "key"
"""
#: what happens to a message, told by SendGrid's words and Mailgun's, and what its delivery is in the end
LIVES = (
    (("processed", "delivered", "open"), ("accepted", "delivered", "opened"), "delivered"),
    (("processed", "deferred", "bounce"), ("accepted", "temporary", "failed"), "bounced"),
    (("deferred", "delivered", "spamreport"), ("temporary", "delivered", "complained"), "complained"),
)
A_LIFE = 3
#: one message in so many went by Mailgun, which posts each event alone
BY_MAILGUN = 50
A_BATCH = 100
POSTERS = 10
MOST_RSS_KB = 400_000

FLEET = """
INSERT INTO rotord.clients (slug) VALUES ('acme');
INSERT INTO rotord.domains (name, client, stream) VALUES ('acme.example', 'acme', 'main');
INSERT INTO rotord.addresses (email, domain) VALUES ('a@acme.example', 'acme.example');
"""
# As the recorder leaves messages whose answers were lost, all of them: each is settled by an event.
MESSAGES = """
INSERT INTO rotord.outbox (client, recipient, subject, body_text)
SELECT 'acme', 'r' || n || '@example.org', 's', 'b' FROM generate_series($1::int, $2::int) AS n ORDER BY n
"""
ATTEMPTS = """
WITH begun AS (
  INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at, outcome, blame,
                               code, reply)
  SELECT ((extract(epoch FROM now() - interval '10 minutes') * 1000)::bigint << 20) + q.id, q.id, 1, 1, 'a@acme.example', 'acme.example',
         'acme', CASE (q.id - $1) % $2 WHEN 0 THEN 'mg' ELSE 'sg' END, now() - interval '10 minutes', now() - interval '9 minutes',
         'uncertain', 'network', '', 'cut'
    FROM rotord.queue q WHERE q.attempts = 0
  RETURNING id, outbox_id)
UPDATE rotord.queue q SET state = 'uncertain', attempt = b.id, attempts = 1, message_id = '<m@x>', last_error = 'cut'
  FROM begun b WHERE q.id = b.outbox_id
"""
COUNTED = """
NOT EXISTS (SELECT FROM rotord.stats_open)
AND (SELECT upto FROM rotord.stats_progress WHERE name = 'events') >= (SELECT max(id) FROM rotord.events)
AND (SELECT upto FROM rotord.stats_progress WHERE name = 'attempts') >= (SELECT max(id) FROM rotord.attempts)
"""


@dataclass
class Storm:
    """One run. Event `n` is the `n % 3`-th of message `n // 3`."""

    url: str
    folder: Path
    messages: int
    kill_every_s: float
    db: asyncpg.Connection | None = None
    order: array = field(default_factory=lambda: array("I"))
    first: int = 0
    base: int = 0
    posted: int = 0
    again: int = 0
    kills: int = 0
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    memory: list[tuple[float, int]] = field(default_factory=list)

    async def set_up(self):
        chance = random.Random(7)
        told = self.messages * A_LIFE
        self.order = array("I", range(told))
        self.order.extend(chance.sample(range(told), told * 3 // 10))
        chance.shuffle(self.order)
        await self.db.execute(FLEET)
        for start in range(0, self.messages, 20_000):
            await self.db.execute(MESSAGES, start, min(start + 20_000, self.messages) - 1)
        self.first = await self.db.fetchval("SELECT min(id) FROM rotord.outbox")
        await self.db.execute(ATTEMPTS, self.first, BY_MAILGUN, timeout=600)
        self.base = await self.db.fetchval("SELECT min(id) FROM rotord.attempts") - self.first
        await self.db.execute("ANALYZE", timeout=600)

    @property
    def in_all(self):
        return len(self.order)

    def posts(self):
        """Every post once, made when it is asked for; SendGrid's gathered, Mailgun's alone."""
        at = int(time.time()) - 300
        gathered = []
        for number in self.order:
            message, step = divmod(number, A_LIFE)
            by_sendgrid, by_mailgun, _ = LIVES[message % len(LIVES)]
            attempt = str(self.base + self.first + message)
            if message % BY_MAILGUN == 0:
                yield "mg", 1, self.of_mailgun(by_mailgun[step], message, attempt, at)
                continue
            gathered.append(
                {"event": by_sendgrid[step], "email": f"r{message}@example.org", "timestamp": at, "sg_message_id": f"m{message}",
                 "rotord_attempt": attempt, "reason": "550 5.1.1 no such user", "type": "bounce"}
            )  # fmt: skip
            if len(gathered) == A_BATCH:
                yield "sg", len(gathered), self.of_sendgrid(gathered)
                gathered = []
        if gathered:
            yield "sg", len(gathered), self.of_sendgrid(gathered)

    @staticmethod
    def of_sendgrid(items):
        body, at = json.dumps(items).encode(), str(int(time.time()))
        signature = PRIVATE.sign(at.encode() + body, ec.ECDSA(hashes.SHA256()))
        return body, {sendgrid.SIGNATURE: base64.b64encode(signature).decode(), sendgrid.TIMESTAMP: at}

    @staticmethod
    def of_mailgun(word, message, attempt, at):
        timestamp, token = str(int(time.time())), uuid4().hex
        signature = hmac.new(b"key", (timestamp + token).encode(), hashlib.sha256).hexdigest()
        data = {"event": "failed" if word == "temporary" else word, "id": f"{word}-{message}", "timestamp": at,
                "recipient": f"r{message}@example.org", "user-variables": {"rotord-attempt": attempt},
                "message": {"headers": {"message-id": f"m{message}@x"}}, "severity": "temporary" if word == "temporary" else "permanent",
                "delivery-status": {"code": 550, "enhanced-code": "5.1.1", "message": "no such user"}}  # fmt: skip
        body = {"signature": {"timestamp": timestamp, "token": token, "signature": signature}, "event-data": data}
        return json.dumps(body).encode(), {"Content-Type": "application/json"}

    async def post_all(self, posts):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            for provider, count, (body, headers) in posts:
                await self.until_taken(session, f"{self.url}/webhooks/{provider}", body, headers)
                self.posted += count
                self.taken.set()
                if self.posted % 20 == 0:
                    await self.until_taken(session, f"{self.url}/webhooks/{provider}", body, headers)

    async def until_taken(self, session, url, body, headers):
        """As a provider does, its minutes and hours made into tenths of seconds."""
        pause_s = 0.05
        while True:
            try:
                async with session.post(url, data=body, headers=headers) as answer:
                    if answer.status < 300:
                        return
                    assert answer.status == 503, (answer.status, await answer.text())
            except (aiohttp.ClientError, TimeoutError):
                pass
            self.again += 1
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)

    async def trouble(self, rig, server):
        """Kill the daemon again and again, end the database twice; then leave them alone."""
        ends = [self.in_all * 2 // 9, self.in_all * 4 // 9]
        while self.posted < self.in_all * 2 // 3:
            await self.up(rig)
            await asyncio.sleep(self.kill_every_s * random.uniform(0.6, 1.4))
            if ends and self.posted > ends[0]:
                del ends[0]
                os.kill(server.pid, signal.SIGQUIT)
                continue
            self.watch(rig)
            await rig.kill()
            await rig.start()
            self.kills += 1
        assert not ends
        await self.up(rig)
        while True:
            await asyncio.sleep(2)
            self.watch(rig)

    async def up(self, rig):
        """Until it has taken a post. It ends when it starts while nobody answers for the database: systemd would start it anew."""
        self.taken.clear()
        while self.posted < self.in_all:
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.taken.wait()
                    return
            if rig.daemon.returncode is not None:
                await rig.start()

    def watch(self, rig):
        status = Path(f"/proc/{rig.daemon.pid}/status").read_text()
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        self.memory.append((time.monotonic(), resident))

    async def folded(self, within_s):
        """Until nothing waits, whatever happens to the connection meanwhile."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            left = await self.db.fetchval(
                "SELECT (SELECT count(*) FROM rotord.provider_posts WHERE folded_at IS NULL) + (SELECT count(*) FROM rotord.event_waits)"
            )
            if not left:
                return
            await asyncio.sleep(1)
        raise AssertionError(f"{left} posts and notes are left")

    async def judge(self):
        """Each event once, each message settled as told, the statistics equal to the recount."""
        told = self.messages * A_LIFE
        one = await self.db.fetchrow("SELECT count(*), count(DISTINCT (outbox_id, kind)) FROM rotord.events", timeout=600)
        assert tuple(one) == (told, told)
        wrong = await self.db.fetchval(
            """
            SELECT count(*) FROM rotord.outbox o LEFT JOIN rotord.message_state s USING (id)
             WHERE s.status IS DISTINCT FROM 'sent' OR s.delivery IS DISTINCT FROM ($2::text[])[((o.id - $1) % 3) + 1]
            """,
            self.first,
            [life[2] for life in LIVES],
            timeout=600,
        )
        assert wrong == 0
        suppressed = await self.db.fetchval("SELECT count(DISTINCT recipient) FROM rotord.suppressions WHERE client = 'acme'")
        assert suppressed == sum(LIVES[message % 3][2] != "delivered" for message in range(self.messages))
        assert await wait_until(self.db, COUNTED, 180)
        kept = {tuple(row) for row in await self.db.fetch(KEPT)}
        assert kept == {tuple(row) for row in await self.db.fetch(RECOUNT, timeout=600)}
        print("statistics, equal to the recount:", *sorted(kept), flush=True)


async def weather(storm, server, rig, group):
    """The storm itself, then its judgement. Prints what came of it; AssertionError for anything lost, twice or grown."""
    began = time.monotonic()
    trouble = group.create_task(storm.trouble(rig, server))
    posts = storm.posts()
    async with asyncio.TaskGroup() as posters:
        for _ in range(POSTERS):
            posters.create_task(storm.post_all(posts))
    took_s = time.monotonic() - began
    print(f"taken after {took_s:.0f} s: {storm.kills} kills, 2 ends of the database, {storm.again:,} answers not 2xx", flush=True)
    storm.db = await asyncpg.connect(server.dsn)
    await storm.folded(1800)
    took_s = time.monotonic() - began
    print(f"folded after {took_s:.0f} s: {storm.in_all / took_s:,.0f} told events a second over all", flush=True)
    await storm.judge()
    trouble.cancel()
    await storm.db.close()
    most = max(kb for _, kb in storm.memory)
    alone = [kb for _, kb in storm.memory[storm.kills :]]
    third = len(alone) // 3
    print(f"memory of the daemon, MB: {most // 1024} at most", flush=True)
    assert most < MOST_RSS_KB
    if third >= 2:
        middle, end = max(alone[third : 2 * third]), max(alone[-third:])
        print(f"left alone, in its middle {middle // 1024} at most, at its end {end // 1024}", flush=True)
        assert end < 1.25 * middle


async def main(events: int, kill_every_s: float, folder: Path) -> None:
    """Run one storm on a server of its own."""
    port = 20_000 + os.getpid() % 20_000
    server = EmbeddedPostgres(folder / "pg", settings={"shared_buffers": "256MB", "max_wal_size": "4GB"})
    async with server, asyncio.TaskGroup() as group:
        group.create_task(server.supervise())
        connection = await asyncpg.connect(server.dsn)
        await migrate.migrate(connection)
        storm = Storm(f"http://127.0.0.1:{port}", folder, max(1, int(events / 1.3 / A_LIFE)), kill_every_s, connection)
        await storm.set_up()
        await connection.close()
        print(f"{storm.in_all:,} events of {storm.messages:,} messages", flush=True)
        async with running(Rig(server.dsn, folder, TOML, environment={"ROTORD_HTTP__LISTEN": f"127.0.0.1:{port}"})) as rig:
            await weather(storm, server, rig, group)
        await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--every", type=float, default=8.0, help="seconds from its first answer to the next kill, about")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(main(given.events, given.every, given.folder or Path(made)))
