"""Statistics kept as things happen equal a recount from the raw rows, whatever happened in whatever order."""

import random
import time

import pytest

from rotord.db import campaigns, stats
from rotord.db.unsubscribe import unsubscribe

KINDS = ("delivered", "bounced", "dropped", "complained", "replied", "unsubscribed", "opened", "deferred")
COUNTED = ("delivered", "bounced", "complained", "replied", "unsubscribed")
FLEET = """
INSERT INTO rotord.clients (slug, timezone) VALUES ('acme', 'Pacific/Auckland'), ('other', 'America/Los_Angeles');
"""
ATTEMPT = """
INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at, finished_at, outcome)
SELECT $1, o.id, 1, 1, $3, split_part($3, '@', 2), o.client, $4, to_timestamp($5), to_timestamp($5 + 60),
       CASE WHEN $6::text IS NOT NULL THEN to_timestamp($5 + 1) END, $6
  FROM rotord.outbox o WHERE o.id = $2
"""
EVENT = """
INSERT INTO rotord.events (outbox_id, client, provider, kind, occurred_at, received_at, recipient, attempt_id, key)
SELECT o.id, o.client, 'relay', $2, to_timestamp($3), now(), o.recipient, $4, $5
  FROM rotord.outbox o WHERE o.id = $1
"""
# The same from nothing but the raw rows: another way to the same numbers.
RECOUNT = """
WITH hits AS (
  SELECT id AS attempt, coalesce(finished_at, began_at) AS at, 'sent' AS kind FROM rotord.attempts WHERE outcome = 'accepted'
  UNION ALL
  SELECT (SELECT a.id FROM rotord.attempts a WHERE a.outbox_id = e.outbox_id
           ORDER BY a.id = e.attempt_id DESC NULLS LAST, a.id DESC LIMIT 1), e.occurred_at, e.kind
    FROM (SELECT DISTINCT ON (outbox_id, replace(kind, 'dropped', 'bounced')) outbox_id, attempt_id, occurred_at,
                 replace(kind, 'dropped', 'bounced') AS kind
            FROM rotord.events ORDER BY outbox_id, replace(kind, 'dropped', 'bounced'), id) e
  UNION ALL
  SELECT (SELECT max(a.id) FROM rotord.attempts a WHERE a.outbox_id = u.outbox_id), u.at, 'unsubscribed' FROM rotord.unsubscribes u
)
SELECT (h.at AT TIME ZONE c.timezone)::date AS day, a.client, o.stream, coalesce(o.campaign, '') AS campaign,
       a.domain, a.address, a.provider,
       count(*) FILTER (WHERE h.kind = 'sent') AS sent, count(*) FILTER (WHERE h.kind = 'delivered') AS delivered,
       count(*) FILTER (WHERE h.kind = 'bounced') AS bounced, count(*) FILTER (WHERE h.kind = 'complained') AS complained,
       count(*) FILTER (WHERE h.kind = 'replied') AS replied, count(*) FILTER (WHERE h.kind = 'unsubscribed') AS unsubscribed
  FROM hits h JOIN rotord.attempts a ON a.id = h.attempt
  JOIN rotord.outbox o ON o.id = a.outbox_id JOIN rotord.clients c ON c.slug = o.client
 WHERE h.kind IN ('sent', 'delivered', 'bounced', 'complained', 'replied', 'unsubscribed')
 GROUP BY 1, 2, 3, 4, 5, 6, 7
"""
KEPT = "SELECT day, client, stream, campaign, domain, address, provider, sent, " + ", ".join(COUNTED) + " FROM rotord.daily_stats"


class Story:
    """Things happen at random to a few messages; attempts end late, also of those already looked at."""

    def __init__(self, db, seed):
        self.db, self.chance, self.now, self.made = db, random.Random(seed), time.time() - 4 * 86400, 0
        self.messages, self.open = [], []

    async def step(self):
        self.now += self.chance.choice((1, 60, 4000))
        await self.chance.choice(
            (self.insert, self.begin, self.begin, self.end, self.event, self.event, self.event, self.press, self.count)
        )()

    async def insert(self):
        client, campaign = self.chance.choice(("acme", "other")), self.chance.choice((None, "spring", "autumn"))
        row = await self.db.fetchval(
            "INSERT INTO rotord.outbox (client, campaign, stream, recipient, subject, body_text) "
            "VALUES ($1, $2, $3, 'r' || $4::int || '@x.example', 's', 'b') RETURNING id",
            client, campaign, self.chance.choice(("main", "news")), len(self.messages),
        )  # fmt: skip
        self.messages.append([row, None])

    async def begin(self):
        if self.messages:
            message = self.chance.choice(self.messages)
            self.made += 1
            message[1] = (int(self.now * 1000) << 20) + self.made
            outcome = self.chance.choice(("accepted", "accepted", "deferred", "uncertain", None))
            address = self.chance.choice(("a@one.example", "b@one.example", "c@two.example"))
            await self.db.execute(ATTEMPT, message[1], message[0], address, self.chance.choice(("relay", "mailgun")), self.now, outcome)
            if outcome in {"uncertain", None}:
                self.open.append(message[1])

    async def end(self):
        if self.open:
            attempt = self.open.pop(self.chance.randrange(len(self.open)))
            outcome = self.chance.choice(("accepted", "rejected", "not_sent"))
            await self.db.execute(
                "UPDATE rotord.attempts SET outcome = $2, finished_at = coalesce(finished_at, to_timestamp($3)) WHERE id = $1",
                attempt, outcome, self.now,
            )  # fmt: skip

    async def event(self):
        begun = [message for message in self.messages if message[1]]
        if begun:
            message = self.chance.choice(begun)
            self.made += 1
            kind = self.chance.choice(KINDS)
            await self.db.execute(EVENT, message[0], kind, self.now, message[1], self.made.to_bytes(8, "big"))

    async def press(self):
        begun = [message for message in self.messages if message[1]]
        if begun:
            message = self.chance.choice(begun)
            await self.db.execute("INSERT INTO rotord.unsubscribes (outbox_id, at) VALUES ($1, to_timestamp($2))", message[0], self.now)
            self.messages.remove(message)  # it gets no newer attempt: a press counts for the newest one

    async def count(self):
        await stats.roll_up(self.db, self.now + 2 * stats.SETTLE_S)


def table(rows):
    return sorted(tuple(row) for row in rows)


@pytest.mark.parametrize("seed", range(4))
async def test_kept_and_recounted_are_equal_after_random_operations(db, seed, monkeypatch):
    monkeypatch.setattr(stats, "BATCH", 7)
    await db.execute(FLEET)
    story = Story(db, seed)
    for _ in range(250):
        await story.step()
    await story.count()

    kept = table(await db.fetch(KEPT))
    assert kept == table(await db.fetch(RECOUNT))
    assert sum(row[7] for row in kept) > 20
    assert all(sum(row[8 + n] for row in kept) > 0 for n in range(len(COUNTED)))


async def test_what_began_a_moment_ago_is_counted_later_and_only_once(db):
    await db.execute(FLEET)
    story = Story(db, 1)
    await story.insert()
    story.now = time.time()
    await db.execute(ATTEMPT, int(story.now * 1000) << 20, story.messages[0][0], "a@one.example", "relay", story.now, "accepted")
    await stats.roll_up(db, story.now + 1)
    early = await db.fetchval("SELECT coalesce(sum(sent), 0) FROM rotord.daily_stats")
    for _ in range(3):
        await stats.roll_up(db, story.now + stats.SETTLE_S + 1)

    assert early == 0
    assert await db.fetchval("SELECT sum(sent) FROM rotord.daily_stats") == 1


async def test_a_press_of_our_link_is_counted_once_for_its_campaign(db):
    await db.execute(FLEET)
    message = await db.fetchval(
        "INSERT INTO rotord.outbox (client, campaign, recipient, subject, body_text) "
        "VALUES ('acme', 'spring', 'r@x.example', 's', 'b') RETURNING id"
    )
    await db.execute(ATTEMPT, (int(time.time() * 1000)) << 20, message, "a@one.example", "relay", time.time(), "accepted")
    for _ in range(3):
        await unsubscribe(db, message, "page")
        await stats.roll_up(db, time.time())
    [row] = await campaigns.find(db, "acme", "spring")

    assert row["unsubscribed"] == 1
