-- `rotord forget`, and retention. Builds an index on message_state (a second or two for a million messages; what is settled waits meanwhile)
-- and one on the events that fit no message.
-- The name of a mailbox that was forgotten: HMAC-SHA256 of it, so that whoever has the key can tell that this is the one, and nobody can
-- read it back. `pads` is the key as the hash takes it: its inner and its outer block, 64 bytes each. It is an address, so it fits wherever
-- one stands.
CREATE FUNCTION rotord.forgotten_name(mailbox text, pads bytea) RETURNS text
  LANGUAGE sql STABLE PARALLEL SAFE STRICT
  RETURN encode(sha256(substr(pads, 65) || sha256(substr(pads, 1, 64) || convert_to(rotord.lower_case(mailbox), 'UTF8'))), 'hex')
    || '@forgotten.invalid';
REVOKE ALL ON FUNCTION rotord.forgotten_name FROM PUBLIC;

CREATE INDEX message_state_settled ON rotord.message_state (settled_at, id);
ALTER TABLE rotord.provider_posts ADD COLUMN erased_at timestamptz;
CREATE INDEX events_of_nobody ON rotord.events (recipient) WHERE outbox_id IS NULL;

-- Who was forgotten (by their forgotten names), when, by which database role, and how much was erased.
CREATE TABLE rotord.forgotten (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name         text COLLATE "C" NOT NULL,
  at           timestamptz NOT NULL DEFAULT clock_timestamp(),
  by           text NOT NULL DEFAULT session_user,
  messages     integer NOT NULL,
  events       integer NOT NULL,
  posts        integer NOT NULL,
  suppressions integer NOT NULL
);

-- What the leader has yet to erase: messages to who was forgotten, and replies of theirs that were passed on, once they are settled; posts
-- that tell of them, once they are folded.
CREATE TABLE rotord.erasures (
  kind text COLLATE "C" NOT NULL,
  id   bigint NOT NULL,
  at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (kind, id),
  CONSTRAINT erasures_kind_is_known CHECK (kind IN ('message', 'reply', 'post'))
);

-- How far retention has blanked bodies: of every message settled up to there.
CREATE TABLE rotord.retention_progress (
  name text PRIMARY KEY,
  upto timestamptz NOT NULL,
  id   bigint NOT NULL
);
INSERT INTO rotord.retention_progress VALUES ('bodies', '1970-01-01 00:00Z', 0);

CREATE OR REPLACE FUNCTION rotord.outbox_inserted() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rotord, pg_temp SET jit = off AS $$
BEGIN
  WITH arrived AS MATERIALIZED (
    SELECT n.id, n.client, n.stream, n.kind, coalesce(n.campaign, '') AS campaign, rotord.lower_case(n.sender) AS sender, n.thread_key,
           -n.priority AS rank, n.send_after, n.expires_at, rotord.lower_case(n.recipient) AS recipient, n.cancelled_at,
           4096 + coalesce(octet_length(n.body_text), 0) + coalesce(octet_length(n.body_html), 0)
             + octet_length(n.headers::text) + octet_length(n.attachments::text) AS bytes,
           (SELECT q.id
            FROM rotord.queue AS q
            WHERE q.client = n.client AND q.thread_key = n.thread_key AND q.state <> 'uncertain'
            ORDER BY q.id
            LIMIT 1) AS thread_head,
           (SELECT t.sender
            FROM rotord.threads AS t
            WHERE t.client = n.client AND t.thread_key = n.thread_key) AS thread_sender
    FROM inserted AS n
  ), message AS MATERIALIZED (  -- sorts, so that every look into the queue above is over before the first row goes into it
    SELECT a.*, least(a.thread_head, min(a.id) FILTER (WHERE a.cancelled_at IS NULL) OVER (PARTITION BY a.client, a.thread_key)) AS head
    FROM arrived AS a
  ), campaign AS (
    INSERT INTO rotord.campaigns (client, name)
    SELECT DISTINCT m.client, m.campaign
    FROM message AS m
    WHERE m.campaign <> ''
      AND NOT EXISTS (SELECT FROM rotord.campaigns AS c WHERE c.client = m.client AND c.name = m.campaign)
    ORDER BY 1, 2
    ON CONFLICT DO NOTHING
  ), cancelled AS (
    INSERT INTO rotord.message_state (id, client, status)
    SELECT m.id, m.client, 'cancelled'
    FROM message AS m
    WHERE m.cancelled_at IS NOT NULL
  )
  INSERT INTO rotord.queue (id, client, stream, kind, campaign, pin, pin_kind, state, rank, due_at, recipient, bytes, thread_key, expires_at)
  SELECT m.id, m.client, m.stream, m.kind, m.campaign, coalesce(m.sender, m.thread_sender, ''),
         CASE WHEN m.sender IS NOT NULL THEN 'sender' WHEN m.thread_sender IS NOT NULL THEN 'thread' ELSE '' END,
         CASE WHEN m.thread_key IS NOT NULL AND m.head < m.id THEN 'waiting' WHEN m.send_after > clock_timestamp() THEN 'scheduled' ELSE 'queued' END,
         m.rank, m.send_after, m.recipient, m.bytes, m.thread_key, m.expires_at
  FROM message AS m
  WHERE m.cancelled_at IS NULL;
  IF FOUND THEN
    PERFORM pg_notify('rotord_outbox', '');
  END IF;
  IF EXISTS (SELECT FROM rotord.keys WHERE name = 'forget') THEN  -- somebody was forgotten: to them nothing is sent, and nothing kept
    INSERT INTO rotord.erasures (kind, id)
    SELECT w.kind, w.id
    FROM (SELECT 'message' AS kind, id, recipient AS person FROM inserted
          UNION ALL
          SELECT 'reply', id, reply_to FROM inserted WHERE campaign = 'forwarded replies') AS w
    JOIN rotord.keys AS k ON k.name = 'forget'
    WHERE EXISTS (SELECT
                  FROM rotord.suppressions AS s
                  WHERE lower(s.recipient) = rotord.forgotten_name(w.person, k.value) AND s.client IS NULL  -- else it was lifted
                  OFFSET 0)
    ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION rotord.suppressions_spelling() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rotord, pg_temp AS $$
DECLARE
  forgotten text;
BEGIN
  NEW.recipient := rotord.lower_case(NEW.recipient);
  SELECT (array_agg(s.recipient))[1] INTO forgotten  -- LIMIT 1 would have a planner without statistics walk the table
  FROM rotord.keys AS k
  JOIN rotord.suppressions AS s ON lower(s.recipient) = rotord.forgotten_name(NEW.recipient, k.value)
  WHERE k.name = 'forget';
  NEW.recipient := coalesce(forgotten, NEW.recipient);
  RETURN NEW;
END
$$;
