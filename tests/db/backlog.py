"""A big database for plan tests: 200,000 live messages, 100,000 settled ones with their ledger, 100,000 suppressions.

Rows are written past the triggers (session_replication_role = replica), with the values that the triggers would give them, and past
the outbox's constraints, which would take 30 s; no plan depends on either.
"""

from asyncpg import Connection

LIVE = 200_000
BIG_LANE = 150_000
SETTLED = 100_000

FLEET = """
INSERT INTO rotord.clients (slug) SELECT 'client-' || i FROM generate_series(0, 11) AS i;
INSERT INTO rotord.domains (name, client, providers)
SELECT 'd' || d || '.client-' || i || '.example', 'client-' || i, '{relay}' FROM generate_series(0, 11) AS i, generate_series(0, 3) AS d;
INSERT INTO rotord.addresses (email, domain)
SELECT 'a' || n || '@' || name, name FROM rotord.domains, generate_series(0, 24) AS n;
INSERT INTO rotord.lease (name, holder, epoch, elected_at, expires_at)
VALUES ('main', '11111111-1111-1111-1111-111111111111', 3, now(), now() + interval '1 day');
UPDATE rotord.lease SET swept_id = (extract(epoch FROM now() - interval '10 minutes') * 1000)::bigint << 20;
"""

# Statistics of another day: a queue of 200 messages, all of one client, all on the wire; hardly anything else.
ANOTHER_DAY = """
INSERT INTO rotord.outbox (id, client, recipient, subject) OVERRIDING SYSTEM VALUE
SELECT i, 'client-1', 'r@example.org', 's' FROM generate_series(1, 200) AS i;
INSERT INTO rotord.queue (id, client, stream, kind, campaign, pin, pin_kind, state, rank, due_at, recipient, bytes)
SELECT i, 'client-1', 'main', 'bulk', '', '', '', 'sending', 0, now(), 'r@example.org', 4096 FROM generate_series(1, 200) AS i;
INSERT INTO rotord.message_state (id, client, status) SELECT i, 'client-1', 'sent' FROM generate_series(1, 200) AS i;
INSERT INTO rotord.suppressions (recipient, reason) VALUES ('x@example.org', 'manual');
INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at)
SELECT i, i, 1, 1, 'a', 'd', 'client-1', 'relay', now(), now() FROM generate_series(1, 200) AS i;
ANALYZE;
DELETE FROM rotord.outbox;
DELETE FROM rotord.queue;
DELETE FROM rotord.message_state;
DELETE FROM rotord.suppressions;
DELETE FROM rotord.attempts;
"""

# What a message is, by its number: the first 150,000 are one lane; then pins, due later, behind their thread, on the wire, uncertain.
LIVE_ROWS = """
WITH kinds AS (
  SELECT i,
         CASE WHEN i <= 150000 THEN 'big' WHEN i <= 151000 THEN 'pinned' WHEN i <= 161000 THEN 'scheduled' WHEN i <= 164000 THEN 'threaded'
              WHEN i <= 164500 THEN 'sending' WHEN i <= 165000 THEN 'uncertain' ELSE 'ready' END AS what
    FROM generate_series(1, 200000) AS i
), rows AS (
  SELECT i, what,
         'client-' || CASE what WHEN 'big' THEN 0 ELSE i % 12 END AS client,
         CASE WHEN what = 'ready' THEN 'c' || i / 12 % 3 ELSE '' END AS campaign,
         CASE WHEN what = 'ready' AND i % 5 = 0 THEN 'transactional' ELSE 'bulk' END AS kind,
         CASE what WHEN 'pinned' THEN 'a' || i % 4 || '@d0.client-' || i % 12 || '.example' ELSE '' END AS pin,
         CASE WHEN what = 'threaded' THEN 't' || i / 36 END AS thread_key,
         now() - make_interval(secs => 200000 - i) AS due_at
    FROM kinds
), outbox AS (
  INSERT INTO rotord.outbox (id, client, recipient, subject, body_text, campaign, kind, thread_key, send_after)
  OVERRIDING SYSTEM VALUE
  SELECT i, client, 'r' || i || '@example.org', 'Message ' || i, repeat('Hello ', 8), nullif(campaign, ''), kind, thread_key, due_at
    FROM rows
)
INSERT INTO rotord.queue (id, client, stream, kind, campaign, pin, pin_kind, state, rank, due_at, recipient, bytes, thread_key, expires_at,
                          attempts, attempt, message_id)
SELECT i, client, 'main', kind, campaign, pin, CASE WHEN pin = '' THEN '' ELSE 'sender' END,
       CASE what WHEN 'scheduled' THEN 'scheduled' WHEN 'sending' THEN 'sending' WHEN 'uncertain' THEN 'uncertain'
                 WHEN 'threaded' THEN CASE WHEN i / 12 % 3 = 0 THEN 'queued' ELSE 'waiting' END ELSE 'queued' END,
       -(i % 3), CASE WHEN what = 'scheduled' AND i % 20 > 0 THEN now() + interval '1 day' ELSE due_at END,
       'r' || i || '@example.org', 4600, thread_key,
       CASE WHEN i % 100 = 0 THEN now() + CASE WHEN i % 1000 = 0 THEN interval '-1 hour' ELSE interval '2 days' END END,
       CASE WHEN what IN ('sending', 'uncertain') THEN 1 ELSE 0 END,
       CASE WHEN what IN ('sending', 'uncertain') THEN ((extract(epoch FROM now()) * 1000)::bigint << 20) + i END,
       CASE WHEN what IN ('sending', 'uncertain') THEN '<' || i || '@x>' END
  FROM rows;
"""

# Ten days of attempts, so that the last one is a tenth; then those of what is on the wire or uncertain.
PAST_ROWS = """
INSERT INTO rotord.outbox (id, client, recipient, subject, body_text, blanked_at)
OVERRIDING SYSTEM VALUE
SELECT 1000000 + i, 'client-' || i % 12, 'r' || i || '@example.org', 'Message ' || i, NULL, now() FROM generate_series(1, 100000) AS i;
INSERT INTO rotord.message_state (id, client, status, sender, provider, message_id, attempts, sent_at)
SELECT 1000000 + i, 'client-' || i % 12, 'sent', 'a1@d0.client-' || i % 12 || '.example', 'relay', '<' || i || '@x>', 1, now()
  FROM generate_series(1, 100000) AS i;
INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at, finished_at, outcome)
SELECT ((extract(epoch FROM at) * 1000)::bigint << 20) + i, 1000000 + i, 1, 2, 'a' || i % 25 || '@d0.client-' || i % 12 || '.example',
       'd0.client-' || i % 12 || '.example', 'client-' || i % 12, 'relay', at, at + interval '90 s', at + interval '1 s', 'accepted'
  FROM generate_series(1, 100000) AS i,
       LATERAL (SELECT now() - interval '15 minutes' - make_interval(secs => (100000 - i) * 8.64) AS at) AS begun;
INSERT INTO rotord.attempts (id, outbox_id, number, epoch, address, domain, client, provider, began_at, deadline_at, outcome)
SELECT attempt, id, 1, 3, 'a1@d0.' || client || '.example', 'd0.' || client || '.example', client, 'relay', now(), now() + interval '90 s',
       CASE state WHEN 'uncertain' THEN 'uncertain' END
  FROM rotord.queue WHERE attempt IS NOT NULL;
INSERT INTO rotord.threads (client, thread_key, sender, last_message_id)
SELECT DISTINCT client, thread_key, 'a1@d0.' || client || '.example', '<x@y>' FROM rotord.queue WHERE thread_key IS NOT NULL;
INSERT INTO rotord.threads (client, thread_key, sender, last_message_id)
SELECT 'client-' || i % 12, 'old-' || i, 'a1@d0.client-' || i % 12 || '.example', '<x@y>' FROM generate_series(1, 20000) AS i;
INSERT INTO rotord.suppressions (client, recipient, reason)
SELECT CASE WHEN i % 10 > 0 THEN 'client-' || i % 12 END, 'gone' || i || '@example.org', 'hard_bounce' FROM generate_series(1, 100000) AS i;
INSERT INTO rotord.campaigns (client, name) SELECT DISTINCT client, campaign FROM rotord.queue WHERE campaign <> '';
INSERT INTO rotord.fleet_changes (kind, name, xid) SELECT 'address', 'a' || i || '@x.example', '700' FROM generate_series(1, 20000) AS i;
SELECT setval(pg_get_serial_sequence('rotord.outbox', 'id'), 2000000);
"""


SET_UP = """
DO $$
DECLARE
  rule name;
  big text;
BEGIN
  FOREACH big IN ARRAY ARRAY['outbox', 'queue', 'message_state', 'attempts', 'threads', 'suppressions', 'fleet_changes'] LOOP
    EXECUTE format('ALTER TABLE rotord.%I SET (autovacuum_enabled = false)', big);
  END LOOP;
  FOR rule IN SELECT conname FROM pg_constraint WHERE conrelid = 'rotord.outbox'::regclass AND contype = 'c' LOOP
    EXECUTE format('ALTER TABLE rotord.outbox DROP CONSTRAINT %I', rule);
  END LOOP;
END
$$;
"""


async def load(db: Connection) -> None:
    """Fill an empty database. Its statistics are those of another day, as after a bulk load with autovacuum behind."""
    await db.execute(FLEET + SET_UP)
    await db.execute(f"SET session_replication_role = replica; {ANOTHER_DAY}")
    await db.execute(LIVE_ROWS)
    await db.execute(PAST_ROWS)
    await db.execute("RESET session_replication_role")


async def load_small_queue(db: Connection) -> None:
    """A twentieth of the queue and nothing else, in the same proportions, with statistics."""
    await db.execute(FLEET + SET_UP)
    await db.execute("SET session_replication_role = replica")
    await db.execute(LIVE_ROWS.replace("FROM generate_series(1, 200000) AS i", "FROM generate_series(20, 200000, 20) AS i"))
    await db.execute("RESET session_replication_role; ANALYZE")


async def forget_statistics(db: Connection) -> None:
    """As if no table had ever been analysed."""
    await db.execute("DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'rotord'::regnamespace)")
    await db.execute("UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relnamespace = 'rotord'::regnamespace AND relkind = 'r'")
