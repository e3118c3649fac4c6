-- rotord: the whole database, complete and readable. New columns go last (the parity test with rotord/migrations/ holds both alike).
-- Run it by `rotord migrate`, by `psql -1 -f schema.sql`, or in Supabase's SQL editor.

CREATE SCHEMA rotord;

CREATE TABLE rotord.schema_version (
  version    integer PRIMARY KEY,
  breaking   boolean NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);

-- The fleet: who may send, from where, how much. `status` is a person's word; `health` is rotord's.
CREATE TABLE rotord.clients (
  slug                  text COLLATE "C" PRIMARY KEY,
  name                  text NOT NULL DEFAULT '',
  timezone              text NOT NULL DEFAULT 'UTC',
  per_hour              integer,
  per_day               integer,
  weight                real NOT NULL DEFAULT 1,
  transactional_reserve real NOT NULL DEFAULT 0,
  sending_window        text,
  pacing                text NOT NULL DEFAULT 'none',
  status                text NOT NULL DEFAULT 'active'
);

CREATE TABLE rotord.domains (
  name              text COLLATE "C" PRIMARY KEY,
  client            text COLLATE "C" NOT NULL REFERENCES rotord.clients ON UPDATE CASCADE,
  stream            text COLLATE "C" NOT NULL DEFAULT 'main',
  providers         text[] NOT NULL DEFAULT '{}',
  per_hour          integer,
  per_day           integer,
  warmup            text NOT NULL DEFAULT 'none',
  warmup_started_on date,
  status            text NOT NULL DEFAULT 'active',
  health            text NOT NULL DEFAULT 'healthy',
  health_reason     text,
  health_since      timestamptz,
  health_until      timestamptz
);

CREATE TABLE rotord.addresses (
  email         text COLLATE "C" PRIMARY KEY,
  domain        text COLLATE "C" NOT NULL REFERENCES rotord.domains ON UPDATE CASCADE,
  display_name  text NOT NULL DEFAULT '',
  per_hour      integer,
  per_day       integer,
  status        text NOT NULL DEFAULT 'active',
  health        text NOT NULL DEFAULT 'healthy',
  health_reason text,
  health_since  timestamptz,
  health_until  timestamptz,
  used_day      integer NOT NULL DEFAULT 0,
  used_day_at   timestamptz
);

-- Every change of the three above, so that the leader reads what changed and nothing else. `xid` orders by visibility, not by time.
CREATE TABLE rotord.fleet_changes (
  id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL,                                         -- client, domain, address, campaign, pause
  name text NOT NULL,
  xid  xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE rotord.campaigns (
  client     text COLLATE "C" NOT NULL REFERENCES rotord.clients ON UPDATE CASCADE,
  name       text COLLATE "C" NOT NULL,
  status     text NOT NULL DEFAULT 'active',
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (client, name)
);

-- What a person paused that has no row of its own: kind 'all' (name ''), 'stream' (name 'client/stream'), 'provider' (its name).
CREATE TABLE rotord.pauses (
  kind      text NOT NULL,
  name      text NOT NULL,
  paused_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, name)
);

-- The message as the app gave it: immutable, for ever (its bodies are blanked by retention), so that keys stay unique.
CREATE TABLE rotord.outbox (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  client          text COLLATE "C" NOT NULL REFERENCES rotord.clients ON UPDATE CASCADE,
  recipient       text NOT NULL,
  recipient_name  text,
  subject         text NOT NULL,
  body_text       text,
  body_html       text,
  stream          text COLLATE "C" NOT NULL DEFAULT 'main',
  campaign        text COLLATE "C",
  kind            text COLLATE "C" NOT NULL DEFAULT 'bulk',
  sender          text COLLATE "C",
  thread_key      text COLLATE "C",
  reply_to        text,
  headers         jsonb NOT NULL DEFAULT '{}',
  attachments     jsonb NOT NULL DEFAULT '[]',
  metadata        jsonb NOT NULL DEFAULT '{}',
  priority        smallint NOT NULL DEFAULT 0,
  send_after      timestamptz NOT NULL DEFAULT now(),
  expires_at      timestamptz,
  on_uncertain    text NOT NULL DEFAULT 'hold',
  idempotency_key text COLLATE "C",
  cancelled_at    timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now(),
  blanked_at      timestamptz
);

-- A live message: narrow, and the only thing that moves. state: queued (ready), scheduled (due later), waiting (behind its thread),
-- sending (on the wire), uncertain. A settled message leaves it for one row in message_state.
CREATE TABLE rotord.queue (
  id         bigint PRIMARY KEY,
  client     text COLLATE "C" NOT NULL,
  stream     text COLLATE "C" NOT NULL,
  kind       text COLLATE "C" NOT NULL,
  campaign   text COLLATE "C" NOT NULL,                       -- '' = none
  pin        text COLLATE "C" NOT NULL,                       -- '' = rotation, else a sender address
  pin_kind   text COLLATE "C" NOT NULL,                       -- '' | sender (the app's word) | thread | retry (greylisting)
  lane       bigint NOT NULL GENERATED ALWAYS AS (
    hashtextextended(client || E'\x1f' || stream || E'\x1f' || kind || E'\x1f' || campaign || E'\x1f' || pin, 0)) STORED,
  state      text COLLATE "C" NOT NULL,
  rank       integer NOT NULL,                                -- -priority: one ascending order serves index and cursor
  due_at     timestamptz NOT NULL,
  recipient  text COLLATE "C" NOT NULL,                       -- lower case, as suppressions are
  bytes      integer NOT NULL,                                -- about what the message will need in memory
  attempts   integer NOT NULL DEFAULT 0,
  attempt    bigint,                                          -- the newest attempt
  cancelled  boolean NOT NULL DEFAULT false,                  -- called back while on the wire
  thread_key text COLLATE "C",
  expires_at timestamptz,
  first_at   timestamptz,                                     -- when the first attempt began: retry_for_seconds counts from it
  message_id text,                                            -- the header's, from the first attempt on
  last_error text
) WITH (fillfactor = 70);
CREATE INDEX queue_ready ON rotord.queue (lane, rank, due_at, id) WHERE state = 'queued';
CREATE INDEX queue_scheduled ON rotord.queue (client, kind, due_at, id) WHERE state = 'scheduled';
CREATE INDEX queue_thread ON rotord.queue (client, thread_key, id) WHERE thread_key IS NOT NULL;
CREATE INDEX queue_uncertain ON rotord.queue (id) WHERE state = 'uncertain';
CREATE INDEX queue_expires ON rotord.queue (expires_at) WHERE expires_at IS NOT NULL;

-- What became of a settled message. status: sent, failed, suppressed, expired, cancelled.
CREATE TABLE rotord.message_state (
  id                  bigint PRIMARY KEY,
  client              text COLLATE "C" NOT NULL,
  status              text COLLATE "C" NOT NULL,
  delivery            text COLLATE "C",
  sender              text COLLATE "C",
  provider            text COLLATE "C",
  provider_message_id text,
  message_id          text,
  attempts            integer NOT NULL DEFAULT 0,
  last_error          text,
  sent_at             timestamptz,
  settled_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  replied_at          timestamptz
) WITH (fillfactor = 80);

-- The ledger. A row is born in the statement that begins the attempt and is settled once. Ids are milliseconds << 20 plus a sequence,
-- made by the leader: ordered in time, so a range of the primary key is a range of time and no other index on time is needed.
CREATE TABLE rotord.attempts (
  id          bigint PRIMARY KEY,
  outbox_id   bigint NOT NULL,
  number      integer NOT NULL,
  epoch       bigint NOT NULL,
  address     text COLLATE "C" NOT NULL,
  domain      text COLLATE "C" NOT NULL,
  client      text COLLATE "C" NOT NULL,
  provider    text COLLATE "C" NOT NULL,
  began_at    timestamptz NOT NULL,
  deadline_at timestamptz NOT NULL,
  finished_at timestamptz,
  outcome     text COLLATE "C",
  blame       text COLLATE "C",
  code        text,
  reply       text,
  provider_message_id text
) WITH (fillfactor = 70);
CREATE INDEX attempts_outbox ON rotord.attempts (outbox_id);

-- A thread keeps its sender address and the chain of Message-IDs.
CREATE TABLE rotord.threads (
  client          text COLLATE "C" NOT NULL,
  thread_key      text COLLATE "C" NOT NULL,
  sender          text COLLATE "C" NOT NULL,
  last_message_id text NOT NULL,
  "references"    text[] NOT NULL DEFAULT '{}',
  updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (client, thread_key)
);

CREATE TABLE rotord.suppressions (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  client     text COLLATE "C" REFERENCES rotord.clients ON UPDATE CASCADE,      -- NULL = everybody's, and only a person makes one
  recipient  text COLLATE "C" NOT NULL,
  reason     text COLLATE "C" NOT NULL,                       -- hard_bounce, complaint, unsubscribe, manual
  source     text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE NULLS NOT DISTINCT (recipient, client, reason)
);

-- One row. holder is random per process start, epoch grows with every term: both must match at every begin.
CREATE TABLE rotord.lease (
  name       text PRIMARY KEY,
  holder     uuid NOT NULL,
  epoch      bigint NOT NULL,
  elected_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  node       text NOT NULL DEFAULT '',
  swept_id   bigint NOT NULL DEFAULT 0                        -- no attempt below it is unfinished
);

-- Durable counts of UTC days, for month plans, warm-up and health; they outlive the ledger's retention.
CREATE TABLE rotord.daily_counters (
  day      date NOT NULL,
  provider text COLLATE "C" NOT NULL,
  client   text COLLATE "C" NOT NULL,
  domain   text COLLATE "C" NOT NULL,
  address  text COLLATE "C" NOT NULL,
  begun    integer NOT NULL,
  accepted integer NOT NULL,
  PRIMARY KEY (day, provider, client, domain, address)
);

-- How the leader's providers are doing, written by it about once a second while something changes; `rotord status` and `why` read it.
CREATE TABLE rotord.provider_status (
  provider   text COLLATE "C" PRIMARY KEY,
  kind       text NOT NULL,
  up         boolean,
  ready      integer NOT NULL,
  in_flight  integer NOT NULL,
  capacity   integer NOT NULL,
  reason     text NOT NULL,
  since      timestamptz NOT NULL,
  next_try_at timestamptz,
  updated_at timestamptz NOT NULL,
  limits     jsonb NOT NULL DEFAULT '{}'
);

-- Which database role inserts for which clients (`rotord app add`).
CREATE TABLE rotord.app_clients (
  role   name NOT NULL,
  client text COLLATE "C" NOT NULL REFERENCES rotord.clients ON UPDATE CASCADE ON DELETE CASCADE,
  PRIMARY KEY (role, client)
);
