-- rotord: the whole database, complete and readable. New columns go last (the parity test with rotord/migrations/ holds both alike).
-- Run it by `rotord migrate`, by `psql -1 -f schema.sql`, or in Supabase's SQL editor. PostgreSQL 15 or newer, no extension.
--
-- A constraint's name is the message its violator gets, so it says the rule.

CREATE SCHEMA rotord;

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rotord_app') THEN
    CREATE ROLE rotord_app NOLOGIN;
  END IF;
END
$$;

-- One spelling of a mailbox for queue, suppressions and pins. ASCII by ASCII's rule whatever the database's language (Turkish has
-- its own idea of a lower-case I), the rest by the database's. An SQL body: it is inlined, and parsed once, so no search_path can bend it.
CREATE FUNCTION rotord.lower_case(mailbox text) RETURNS text
  LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
  RETURN lower(lower(mailbox COLLATE "C") COLLATE "default");

-- One address: one `@` with something on each side; no space or format character, nothing that quotes, groups or lists.
CREATE FUNCTION rotord.is_address(mailbox text) RETURNS boolean
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN length(mailbox) <= 320 AND mailbox ~
    '^[^@ \u0001-\u001f\u007f-\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff"(),:;<>[\]\\]+'
    '@[^@ \u0001-\u001f\u007f-\u00a0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff"(),:;<>[\]\\]+$';

-- The name of a mailbox that was forgotten: HMAC-SHA256 of it, so that whoever has the key can tell that this is the one, and nobody can
-- read it back. `pads` is the key as the hash takes it: its inner and its outer block, 64 bytes each. It is an address, so it fits wherever
-- one stands.
CREATE FUNCTION rotord.forgotten_name(mailbox text, pads bytea) RETURNS text
  LANGUAGE sql STABLE PARALLEL SAFE STRICT
  RETURN encode(sha256(substr(pads, 65) || sha256(substr(pads, 1, 64) || convert_to(rotord.lower_case(mailbox), 'UTF8'))), 'hex')
    || '@forgotten.invalid';

-- A line: no control character (C0, DEL, C1, U+2028, U+2029), and no `=?`, which a mail library may decode into one.
CREATE FUNCTION rotord.is_line(words text, longest integer) RETURNS boolean
  LANGUAGE sql IMMUTABLE PARALLEL SAFE
  RETURN length(words) <= longest AND words !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]|=\?';

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
  status                text NOT NULL DEFAULT 'active',
  unsubscribe_host      text,                                  -- its bulk mail's unsubscribe links: https://<host>/u/...
  forward_replies_to    text,                                  -- where persons' replies go; a domain's and an address's own go before it
  CONSTRAINT clients_slug_is_a_slug CHECK (slug ~ '^[a-z0-9-]{1,63}$'),
  CONSTRAINT clients_name_is_a_line_of_200 CHECK (rotord.is_line(name, 200)),
  CONSTRAINT clients_per_hour_is_not_negative CHECK (per_hour >= 0),
  CONSTRAINT clients_per_day_is_not_negative CHECK (per_day >= 0),
  CONSTRAINT clients_weight_is_above_0 CHECK (weight > 0 AND weight <= 1000000),
  CONSTRAINT clients_transactional_reserve_is_0_to_09 CHECK (transactional_reserve BETWEEN 0 AND 0.9),
  CONSTRAINT clients_sending_window_reads_mon_fri_0800_1900 CHECK (sending_window ~* replace(replace(replace(
    '^ *window( *; *window)* *$',
    'window', 'day( *[,-] *day)* +time *- *time( *, *time *- *time)*'),
    'day', '(mon|tue|wed|thu|fri|sat|sun|daily)'),
    'time', '([01]?[0-9]|2[0-4]):[0-5][0-9]')),
  CONSTRAINT clients_pacing_is_even_or_none CHECK (pacing IN ('even', 'none')),
  CONSTRAINT clients_status_is_active_paused_or_disabled CHECK (status IN ('active', 'paused', 'disabled')),
  CONSTRAINT clients_unsubscribe_host_is_a_lower_case_host_name CHECK (length(unsubscribe_host) <= 253
    AND unsubscribe_host ~ '^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)+$'),
  CONSTRAINT clients_forward_replies_to_is_one_address CHECK (rotord.is_address(forward_replies_to))
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
  health_until      timestamptz,
  forward_replies_to text,
  CONSTRAINT domains_name_is_a_lower_case_domain CHECK (length(name) <= 253 AND name ~ '^[a-z0-9_-]+([.][a-z0-9_-]+)*$'),
  CONSTRAINT domains_stream_is_a_slug CHECK (stream ~ '^[a-z0-9-]{1,63}$'),
  CONSTRAINT domains_providers_are_names CHECK (providers::text ~ '^[{]([a-z0-9_]+(,[a-z0-9_]+)*)?[}]$'),
  CONSTRAINT domains_per_hour_is_not_negative CHECK (per_hour >= 0),
  CONSTRAINT domains_per_day_is_not_negative CHECK (per_day >= 0),
  CONSTRAINT domains_warmup_is_a_name CHECK (warmup ~ '^[a-z0-9_-]{1,63}$'),
  CONSTRAINT domains_status_is_active_paused_or_disabled CHECK (status IN ('active', 'paused', 'disabled')),
  CONSTRAINT domains_health_is_known CHECK (health IN ('healthy', 'suspicious', 'cooling', 'probation', 'disabled')),
  CONSTRAINT domains_forward_replies_to_is_one_address CHECK (rotord.is_address(forward_replies_to))
);
CREATE INDEX domains_client ON rotord.domains (client, stream);

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
  used_day_at   timestamptz,
  forward_replies_to text,
  CONSTRAINT addresses_email_is_one_address CHECK (rotord.is_address(email)),
  CONSTRAINT addresses_email_is_lower_case CHECK (email = rotord.lower_case(email)),
  CONSTRAINT addresses_domain_is_the_part_after_the_at CHECK (domain = split_part(email, '@', 2)),
  CONSTRAINT addresses_display_name_is_a_line_of_320 CHECK (rotord.is_line(display_name, 320)),
  CONSTRAINT addresses_per_hour_is_not_negative CHECK (per_hour >= 0),
  CONSTRAINT addresses_per_day_is_not_negative CHECK (per_day >= 0),
  CONSTRAINT addresses_used_day_is_not_negative CHECK (used_day >= 0),
  CONSTRAINT addresses_status_is_active_paused_or_disabled CHECK (status IN ('active', 'paused', 'disabled')),
  CONSTRAINT addresses_health_is_known CHECK (health IN ('healthy', 'suspicious', 'cooling', 'probation', 'disabled')),
  CONSTRAINT addresses_forward_replies_to_is_one_address CHECK (rotord.is_address(forward_replies_to))
);
CREATE INDEX addresses_domain ON rotord.addresses (domain);

-- Every change of the three above, so that the leader reads what changed and nothing else. `xid` orders by visibility, not by time.
CREATE TABLE rotord.fleet_changes (
  id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL,                                         -- client, domain, address, campaign, pause
  name text NOT NULL,
  xid  xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX fleet_changes_xid ON rotord.fleet_changes (xid);

CREATE TABLE rotord.campaigns (
  client     text COLLATE "C" NOT NULL REFERENCES rotord.clients ON UPDATE CASCADE,
  name       text COLLATE "C" NOT NULL,
  status     text NOT NULL DEFAULT 'active',                  -- paused: waits; cancelled: what is queued is called back; done: over
  created_at timestamptz NOT NULL DEFAULT now(),
  sending_window text,                                        -- beside its client's: bulk mail waits for both
  stop_on_reply boolean NOT NULL DEFAULT false,               -- a recipient who replied gets no more of it
  per_hour   integer,                                         -- beside its client's, in any 60 minutes; NULL = none
  per_day    integer,
  PRIMARY KEY (client, name),
  CONSTRAINT campaigns_name_is_a_line_of_200 CHECK (length(name) BETWEEN 1 AND 200 AND name !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]'),
  CONSTRAINT campaigns_status_is_active_paused_cancelled_or_done CHECK (status IN ('active', 'paused', 'cancelled', 'done')),
  CONSTRAINT campaigns_sending_window_reads_mon_fri_0800_1900 CHECK (sending_window ~* replace(replace(replace(
    '^ *window( *; *window)* *$',
    'window', 'day( *[,-] *day)* +time *- *time( *, *time *- *time)*'),
    'day', '(mon|tue|wed|thu|fri|sat|sun|daily)'),
    'time', '([01]?[0-9]|2[0-4]):[0-5][0-9]')),
  CONSTRAINT campaigns_per_hour_is_not_negative CHECK (per_hour >= 0),
  CONSTRAINT campaigns_per_day_is_not_negative CHECK (per_day >= 0)
);

-- What a person paused that has no row of its own: kind 'all' (name ''), 'stream' (name 'client/stream'), 'provider' (its name).
CREATE TABLE rotord.pauses (
  kind      text NOT NULL,
  name      text NOT NULL,
  paused_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, name),
  CONSTRAINT pauses_kind_is_all_stream_or_provider CHECK (kind IN ('all', 'stream', 'provider')),
  CONSTRAINT pauses_name_fits_its_kind CHECK (CASE kind
    WHEN 'all' THEN name = ''
    WHEN 'stream' THEN name ~ '^[a-z0-9-]{1,63}/[a-z0-9-]{1,63}$'
    ELSE name ~ '^[a-z0-9_]+$' END)
);

-- The message as the app gave it: immutable, for ever, so that keys stay unique. Some time after it was settled its bodies are blanked
-- (retention.body_days); of a person who was forgotten (`rotord forget`) only the forgotten name is left.
CREATE TABLE rotord.outbox (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  client          text COLLATE "C" NOT NULL REFERENCES rotord.clients,  -- no cascade: attempts count under the slug, so it stays
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
  blanked_at      timestamptz,
  CONSTRAINT outbox_idempotency_key_is_unique_per_client UNIQUE (client, idempotency_key),
  CONSTRAINT outbox_recipient_is_one_address CHECK (rotord.is_address(recipient)),
  CONSTRAINT outbox_sender_is_one_address CHECK (rotord.is_address(sender)),
  CONSTRAINT outbox_reply_to_is_one_address CHECK (rotord.is_address(reply_to)),
  CONSTRAINT outbox_recipient_name_is_a_line_of_320 CHECK (rotord.is_line(recipient_name, 320)),
  CONSTRAINT outbox_subject_is_over_998_characters CHECK (length(subject) <= 998),
  CONSTRAINT outbox_subject_no_control_characters_no_encoded_words CHECK (subject !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]|=\?'),
  CONSTRAINT outbox_needs_a_body CHECK (body_text IS NOT NULL OR body_html IS NOT NULL OR blanked_at IS NOT NULL),
  CONSTRAINT outbox_bodies_are_within_2_mb_each CHECK (octet_length(body_text) <= 2097152 AND octet_length(body_html) <= 2097152),
  CONSTRAINT outbox_stream_is_a_slug CHECK (stream ~ '^[a-z0-9-]{1,63}$'),
  CONSTRAINT outbox_campaign_is_a_line_of_200 CHECK (length(campaign) <= 200 AND campaign !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]'),
  CONSTRAINT outbox_thread_key_is_1_to_200 CHECK (length(thread_key) BETWEEN 1 AND 200),
  CONSTRAINT outbox_idempotency_key_is_1_to_200 CHECK (length(idempotency_key) BETWEEN 1 AND 200),
  CONSTRAINT outbox_kind_is_bulk_or_transactional CHECK (kind IN ('bulk', 'transactional')),
  CONSTRAINT outbox_on_uncertain_is_hold_or_resend CHECK (on_uncertain IN ('hold', 'resend')),
  CONSTRAINT outbox_priority_is_within_1000 CHECK (priority BETWEEN -1000 AND 1000),
  CONSTRAINT outbox_send_after_and_expires_at_are_within_2000_to_2200 CHECK (
    send_after BETWEEN '2000-01-01 00:00Z' AND '2200-01-01 00:00Z' AND expires_at BETWEEN '2000-01-01 00:00Z' AND '2200-01-01 00:00Z'),
  -- The default stands first: a row without headers or attachments pays nothing for these.
  CONSTRAINT outbox_headers_are_an_object_of_50_strings_within_8_kb CHECK (headers = '{}' OR CASE jsonb_typeof(headers)
    WHEN 'object' THEN octet_length(headers::text) <= 8192 AND NOT jsonb_path_exists(headers, 'strict $.* ? (@.type() != "string")')
      AND jsonb_array_length(jsonb_path_query_array(headers, '$.keyvalue()')) <= 50
    ELSE false END),
  CONSTRAINT outbox_headers_names_allowed CHECK (headers = '{}' OR jsonb_typeof(headers) <> 'object'
    OR NOT jsonb_path_exists(headers, '$.keyvalue() ? (
      !(@.key like_regex "^[A-Za-z0-9-]{1,76}$")
      || @.key like_regex "^(from|to|cc|bcc|sender|subject|date|message-id|reply-to|return-path|received)$" flag "i"
      || @.key like_regex "^(in-reply-to|references|list-unsubscribe|list-unsubscribe-post|mime-version)$" flag "i"
      || @.key like_regex "^(content-|resent-|dkim-|arc-|authentication-|x-rotord-|x-smtpapi|x-mailgun-)" flag "i")')),
  CONSTRAINT outbox_headers_values_no_control_characters_no_encoded_words CHECK (headers = '{}' OR jsonb_typeof(headers) <> 'object'
    OR NOT jsonb_path_exists(headers, '$.keyvalue() ? (
      @.value like_regex "[\u0001-\u001f\u007f-\u009f\u2028\u2029]|=[?]"
      || @.value like_regex "^.{250}.{250}.{250}.{249}")')),
  CONSTRAINT outbox_attachments_are_50_with_filename_content_type_and_base64 CHECK (attachments = '[]' OR CASE jsonb_typeof(attachments)
    WHEN 'array' THEN jsonb_array_length(attachments) <= 50 AND jsonb_array_length(attachments) = jsonb_array_length(
      jsonb_path_query_array(attachments, 'strict $[*] ? (
        @.filename like_regex "^[^\u0001-\u001f\u007f-\u009f\u2028\u2029/\\\\]{1,255}$"
        && @.content_type like_regex "^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$"
        && @.content_base64.type() == "string").content_type'))
    ELSE false END),
  CONSTRAINT outbox_attachments_are_within_10_mb CHECK (attachments = '[]' OR octet_length(attachments::text) <= 14680064),
  CONSTRAINT outbox_metadata_is_an_object_within_16_kb CHECK (metadata = '{}'
    OR jsonb_typeof(metadata) = 'object' AND octet_length(metadata::text) <= 16384)
);
CREATE INDEX outbox_campaign ON rotord.outbox (client, campaign, id) WHERE campaign IS NOT NULL;
CREATE INDEX outbox_recipient ON rotord.outbox (rotord.lower_case(recipient));  -- whose messages: a reply, a person to be forgotten

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
  lane       bigint NOT NULL GENERATED ALWAYS AS (                -- md5: nobody can choose a name that lands in another client's lane
    ('x' || left(md5(client || E'\x1f' || stream || E'\x1f' || kind || E'\x1f' || campaign || E'\x1f' || pin || E'\x1f' || pin_kind), 16))::bit(64)::bigint
    ) STORED,
  state      text COLLATE "C" NOT NULL,
  rank       integer NOT NULL,                                -- -priority: one ascending order serves index and cursor
  due_at     timestamptz NOT NULL,
  recipient  text COLLATE "C" NOT NULL,                       -- lower case, as suppressions are
  bytes      integer NOT NULL,                                -- about what the message will need in memory
  attempts   integer NOT NULL DEFAULT 0,
  attempt    bigint,                                          -- the newest attempt
  thread_key text COLLATE "C",
  expires_at timestamptz,
  first_at   timestamptz,                                     -- when the first attempt began: retry_for_seconds counts from it
  message_id text,                                            -- the header's, from the first attempt on
  last_error text,
  avoid      text COLLATE "C" NOT NULL DEFAULT '',            -- the provider that failed the last attempt: another one is preferred
  looked_up_at timestamptz,                                   -- uncertain: when its provider was last asked whether it has it,
  look_ups   integer,                                         -- and how often; NULL until then, so that the others pay nothing
  CONSTRAINT queue_state_is_known CHECK (state IN ('queued', 'scheduled', 'waiting', 'sending', 'uncertain'))
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
  replied_at          timestamptz,
  CONSTRAINT message_state_status_is_known CHECK (status IN ('sent', 'failed', 'suppressed', 'expired', 'cancelled')),
  CONSTRAINT message_state_delivery_is_known CHECK (delivery IN ('delivered', 'deferred', 'bounced', 'complained'))
) WITH (fillfactor = 80);
CREATE INDEX message_state_settled ON rotord.message_state (settled_at, id);  -- whose bodies are blanked next

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
  provider_message_id text,
  campaign    text COLLATE "C",                               -- '' = none, NULL = begun before it was written down: its outbox row says
  CONSTRAINT attempts_outcome_is_known CHECK (outcome IN ('accepted', 'deferred', 'rejected', 'not_sent', 'uncertain')),
  CONSTRAINT attempts_blame_is_known CHECK (blame IN ('recipient', 'sender', 'content', 'account', 'rate', 'provider', 'network'))
) WITH (fillfactor = 50);  -- so that most are settled on the page they were begun on: a tenth less write-ahead log
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
  UNIQUE NULLS NOT DISTINCT (recipient, client, reason),
  CONSTRAINT suppressions_recipient_is_one_word CHECK (length(recipient) BETWEEN 1 AND 320 AND recipient !~ '[\u0001-\u0020\u007f-\u00a0\u2028\u2029]'),
  CONSTRAINT suppressions_reason_is_known CHECK (reason IN ('hard_bounce', 'complaint', 'unsubscribe', 'manual'))
);
CREATE INDEX suppressions_lower ON rotord.suppressions (lower(recipient)) INCLUDE (client, reason);  -- asked at every begin

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

-- What became of messages, by day in the client's time zone: the day it was accepted, resp. the day of the event. Kept by the leader from
-- attempts, events and unsubscribes, each counted once; `campaign` '' = none.
CREATE TABLE rotord.daily_stats (
  day          date NOT NULL,
  client       text COLLATE "C" NOT NULL,
  stream       text COLLATE "C" NOT NULL,
  campaign     text COLLATE "C" NOT NULL,
  domain       text COLLATE "C" NOT NULL,
  address      text COLLATE "C" NOT NULL,
  provider     text COLLATE "C" NOT NULL,
  sent         integer NOT NULL DEFAULT 0,
  delivered    integer NOT NULL DEFAULT 0,
  bounced      integer NOT NULL DEFAULT 0,
  complained   integer NOT NULL DEFAULT 0,
  replied      integer NOT NULL DEFAULT 0,
  unsubscribed integer NOT NULL DEFAULT 0,
  PRIMARY KEY (client, day, campaign, stream, domain, address, provider)
);
CREATE INDEX daily_stats_campaign ON rotord.daily_stats (client, campaign) WHERE campaign <> '';

-- How far the statistics have read: every attempt and event below is counted or, not settled yet, in stats_open.
CREATE TABLE rotord.stats_progress (
  name text PRIMARY KEY,
  upto bigint NOT NULL
);
INSERT INTO rotord.stats_progress VALUES ('attempts', 0), ('events', 0);
CREATE TABLE rotord.stats_open (
  attempt_id bigint PRIMARY KEY
);

-- Who pressed a link of ours, once a message.
CREATE TABLE rotord.unsubscribes (
  outbox_id bigint PRIMARY KEY,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  counted   boolean NOT NULL DEFAULT false
);
CREATE INDEX unsubscribes_not_counted ON rotord.unsubscribes (outbox_id) WHERE NOT counted;

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

-- What a person should know of: one row a condition, open until resolved_at is set. Written only by rotord.
CREATE TABLE rotord.alerts (
  what        text COLLATE "C" NOT NULL,
  subject     text COLLATE "C" NOT NULL,
  severity    text NOT NULL,
  text        text NOT NULL,
  remedy      text NOT NULL,
  since       timestamptz NOT NULL DEFAULT clock_timestamp(),
  resolved_at timestamptz,
  resolution  text NOT NULL DEFAULT '',
  times       integer NOT NULL DEFAULT 1,                      -- how often it was raised since then
  PRIMARY KEY (what, subject),
  CONSTRAINT alerts_severity_is_known CHECK (severity IN ('info', 'warning', 'critical'))
);

-- What each sink was told of them. told: at which severity, null that it is resolved (or nothing yet, while told_at is null).
CREATE TABLE rotord.alert_deliveries (
  what        text COLLATE "C" NOT NULL,
  subject     text COLLATE "C" NOT NULL,
  sink        text NOT NULL,
  told        text,
  told_at     timestamptz,
  attempts    integer NOT NULL DEFAULT 0,                      -- failed ones since then
  next_try_at timestamptz,
  last_error  text NOT NULL DEFAULT '',
  PRIMARY KEY (what, subject, sink),
  CONSTRAINT alert_deliveries_alert FOREIGN KEY (what, subject) REFERENCES rotord.alerts ON DELETE CASCADE
);

-- Which database role inserts for which clients (`rotord app add`).
CREATE TABLE rotord.app_clients (
  role   name NOT NULL,
  client text COLLATE "C" NOT NULL REFERENCES rotord.clients ON UPDATE CASCADE ON DELETE CASCADE,
  PRIMARY KEY (role, client)
);

-- Secrets that every node must share: the key of the unsubscribe links; the key of forgotten names, from the first `rotord forget` on.
-- Nobody but the owner reads them.
CREATE TABLE rotord.keys (
  name       text PRIMARY KEY,
  value      bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

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

-- A message that was inserted goes into the queue, or straight to `cancelled`. One scan of the inserted rows, then narrow ones only;
-- subqueries instead of joins, and no JIT (60 ms for each single row, measured), because the plan of a session's first INSERT serves
-- all later ones, of one row or of 20,000.
CREATE FUNCTION rotord.outbox_inserted() RETURNS trigger
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
CREATE TRIGGER outbox_inserted AFTER INSERT ON rotord.outbox
  REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION rotord.outbox_inserted();

-- A message is called back: what is not on the wire leaves the queue, and the next of its thread takes its place. What may be with
-- its provider is not touched, not even locked, or an app's open transaction would hold up the recording of its answer: settling and the
-- next begin read cancelled_at themselves. So a row that is just being begun is not queued for (whoever queues for a lock gets it, whatever
-- the row has become meanwhile) but looked at again.
CREATE FUNCTION rotord.outbox_cancelled() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rotord, pg_temp AS $$
DECLARE
  live rotord.queue;
BEGIN
  FOR look IN 1..400 LOOP  -- 2 s, of which a begin takes some milliseconds
    DELETE FROM rotord.queue
    WHERE id = (SELECT q.id
                FROM rotord.queue AS q
                WHERE q.id = NEW.id AND q.state IN ('queued', 'scheduled', 'waiting')
                FOR UPDATE SKIP LOCKED)
    RETURNING * INTO live;
    EXIT WHEN live.id IS NOT NULL
      OR NOT EXISTS (SELECT FROM rotord.queue AS q WHERE q.id = NEW.id AND q.state IN ('queued', 'scheduled', 'waiting'));
    PERFORM pg_sleep(0.005);
  END LOOP;
  IF live.id IS NOT NULL THEN
    INSERT INTO rotord.message_state (id, client, status, sender, provider, message_id, attempts, last_error)
    SELECT live.id, live.client, 'cancelled', a.address, a.provider, live.message_id, live.attempts, live.last_error
    FROM (VALUES (live.attempt)) AS newest (id)
    LEFT JOIN rotord.attempts AS a USING (id);
    IF live.thread_key IS NOT NULL THEN
      UPDATE rotord.queue AS q
      SET state = CASE WHEN q.due_at > clock_timestamp() THEN 'scheduled' ELSE 'queued' END,
          pin = coalesce(t.sender, q.pin),
          pin_kind = CASE WHEN t.sender IS NULL THEN q.pin_kind ELSE 'thread' END
      FROM (SELECT e.id, e.pin
            FROM rotord.queue AS e
            WHERE e.client = live.client AND e.thread_key = live.thread_key AND e.state <> 'uncertain'
            ORDER BY e.id
            LIMIT 1) AS head
      LEFT JOIN rotord.threads AS t ON t.client = live.client AND t.thread_key = live.thread_key AND head.pin = ''
      WHERE q.id = head.id AND q.state = 'waiting';
      PERFORM pg_notify('rotord_outbox', '');
    END IF;
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER outbox_cancelled AFTER UPDATE OF cancelled_at ON rotord.outbox
  FOR EACH ROW WHEN (OLD.cancelled_at IS NULL AND NEW.cancelled_at IS NOT NULL) EXECUTE FUNCTION rotord.outbox_cancelled();

-- What is never done to the outbox: its rows are the memory that keys are unique by, and a cancel is not taken back.
CREATE FUNCTION rotord.outbox_refused() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP <> 'UPDATE' THEN
    RAISE EXCEPTION 'rows of rotord.outbox stay for ever: % is refused', TG_OP
      USING ERRCODE = 'restrict_violation',
            HINT = 'To call a message back: UPDATE rotord.outbox SET cancelled_at = now() WHERE id = ... Bodies are blanked by retention.';
  ELSIF NEW.cancelled_at IS NULL THEN
    RAISE EXCEPTION 'message % was cancelled, and that is not taken back', OLD.id
      USING ERRCODE = 'restrict_violation', HINT = 'INSERT it again under a new idempotency_key.';
  END IF;
  NEW.cancelled_at := OLD.cancelled_at;  -- cancelled twice: the first time stands
  RETURN NEW;
END
$$;
CREATE TRIGGER outbox_cancel_stands BEFORE UPDATE OF cancelled_at ON rotord.outbox
  FOR EACH ROW WHEN (OLD.cancelled_at IS NOT NULL) EXECUTE FUNCTION rotord.outbox_refused();
CREATE TRIGGER outbox_never_deleted BEFORE DELETE ON rotord.outbox
  FOR EACH STATEMENT EXECUTE FUNCTION rotord.outbox_refused();
CREATE TRIGGER outbox_never_truncated BEFORE TRUNCATE ON rotord.outbox
  FOR EACH STATEMENT EXECUTE FUNCTION rotord.outbox_refused();

-- The claim's two looks into the queue, as functions, because the plan is not the planner's to choose: both must follow queue_ready in its
-- order. For the planner a queue that was nearly empty when it was last analysed makes a scan of all of it, or a bitmap and a sort, look as
-- cheap; kept while the queue fills, such a plan reads every dead row for every lane.
-- Every lane from `first` on that has a queued row, and where its first one is; a loose index scan, one descent for each lane however many
-- rows it has. While something holds back the database's clean-up, a lane's start is where its dead rows lie, and this walks over them.
CREATE FUNCTION rotord.queued_lanes(first bigint, at_once integer)
  RETURNS TABLE (lane bigint, client text, stream text, kind text, campaign text, pin text, pin_kind text,
                 rank integer, due_at double precision, id bigint)
  LANGUAGE plpgsql STABLE SET enable_bitmapscan = off SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH RECURSIVE lanes AS (
    (SELECT q.lane, q.client, q.stream, q.kind, q.campaign, q.pin, q.pin_kind, q.rank, q.due_at, q.id
     FROM rotord.queue AS q
     WHERE q.state = 'queued' AND q.lane >= first
     ORDER BY q.lane, q.rank, q.due_at, q.id
     LIMIT 1)
    UNION ALL
    (SELECT n.*
     FROM lanes AS l
     CROSS JOIN LATERAL (
       SELECT q.lane, q.client, q.stream, q.kind, q.campaign, q.pin, q.pin_kind, q.rank, q.due_at, q.id
       FROM rotord.queue AS q
       WHERE q.state = 'queued' AND q.lane > l.lane
       ORDER BY q.lane, q.rank, q.due_at, q.id
       LIMIT 1) AS n)
  )
  SELECT l.lane, l.client, l.stream, l.kind, l.campaign, l.pin, l.pin_kind, l.rank, extract(epoch FROM l.due_at)::float8, l.id
  FROM lanes AS l
  LIMIT at_once;
END
$$;

-- Of each lane up to `most` rows after a place in its order, lane after lane.
CREATE FUNCTION rotord.queued_rows(lanes bigint[], most integer[], ranks integer[], due_ats double precision[], ids bigint[])
  RETURNS TABLE (id bigint, lane bigint, rank integer, due_at double precision, bytes integer, attempts integer, first_at double precision,
                 message_id text, thread_key text, avoid text)
  LANGUAGE plpgsql STABLE SET enable_bitmapscan = off SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT n.id, w.lane, n.rank, extract(epoch FROM n.due_at)::float8, n.bytes, n.attempts, extract(epoch FROM n.first_at)::float8,
         n.message_id, n.thread_key, n.avoid
  FROM unnest(lanes, most, ranks, due_ats, ids) AS w (lane, most, rank, due_at, id)
  CROSS JOIN LATERAL (
    SELECT q.id, q.rank, q.due_at, q.bytes, q.attempts, q.first_at, q.message_id, q.thread_key, q.avoid
    FROM rotord.queue AS q
    WHERE q.state = 'queued' AND q.lane = w.lane AND (q.rank, q.due_at, q.id) > (w.rank, to_timestamp(w.due_at), w.id)
    ORDER BY q.rank, q.due_at, q.id
    LIMIT w.most) AS n;
END
$$;

-- Writes down what changed in the fleet, whoever changed it. Arguments: the kind, what stands between the parts of the name, its columns.
CREATE FUNCTION rotord.fleet_changed() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rotord, pg_temp AS $$
DECLARE
  was jsonb := to_jsonb(OLD);
  is_now jsonb := to_jsonb(NEW);
BEGIN
  INSERT INTO rotord.fleet_changes (kind, name)
  SELECT DISTINCT TG_ARGV[0], concat_ws(TG_ARGV[1], version ->> TG_ARGV[2], version ->> TG_ARGV[3])
  FROM unnest(ARRAY[was, is_now]) AS version
  WHERE version IS NOT NULL;
  PERFORM pg_notify('rotord_fleet', '');  -- many in one transaction are one notification
  RETURN NULL;
END
$$;
CREATE TRIGGER clients_changed AFTER INSERT OR DELETE ON rotord.clients
  FOR EACH ROW EXECUTE FUNCTION rotord.fleet_changed('client', '', 'slug');
CREATE TRIGGER clients_updated AFTER UPDATE ON rotord.clients
  FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION rotord.fleet_changed('client', '', 'slug');
CREATE TRIGGER domains_changed AFTER INSERT OR DELETE ON rotord.domains
  FOR EACH ROW EXECUTE FUNCTION rotord.fleet_changed('domain', '', 'name');
CREATE TRIGGER domains_updated AFTER UPDATE ON rotord.domains
  FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION rotord.fleet_changed('domain', '', 'name');
CREATE TRIGGER campaigns_changed AFTER INSERT OR DELETE ON rotord.campaigns
  FOR EACH ROW EXECUTE FUNCTION rotord.fleet_changed('campaign', '/', 'client', 'name');
CREATE TRIGGER campaigns_updated AFTER UPDATE ON rotord.campaigns
  FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION rotord.fleet_changed('campaign', '/', 'client', 'name');
CREATE TRIGGER pauses_changed AFTER INSERT OR DELETE ON rotord.pauses
  FOR EACH ROW EXECUTE FUNCTION rotord.fleet_changed('pause', ':', 'kind', 'name');
CREATE TRIGGER pauses_updated AFTER UPDATE ON rotord.pauses
  FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION rotord.fleet_changed('pause', ':', 'kind', 'name');

-- The same for addresses, once a statement: a fleet file brings thousands of them at once.
CREATE FUNCTION rotord.addresses_changed() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rotord, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO rotord.fleet_changes (kind, name)
    SELECT 'address', n.email
    FROM is_now AS n;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO rotord.fleet_changes (kind, name)
    SELECT 'address', w.email
    FROM was AS w;
  ELSE  -- one that was renamed has no other half under either name
    INSERT INTO rotord.fleet_changes (kind, name)
    SELECT 'address', email
    FROM was AS w
    FULL JOIN is_now AS n USING (email)
    WHERE w IS DISTINCT FROM n;
  END IF;
  IF FOUND THEN
    PERFORM pg_notify('rotord_fleet', '');
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER addresses_inserted AFTER INSERT ON rotord.addresses
  REFERENCING NEW TABLE AS is_now FOR EACH STATEMENT EXECUTE FUNCTION rotord.addresses_changed();
CREATE TRIGGER addresses_updated AFTER UPDATE ON rotord.addresses
  REFERENCING OLD TABLE AS was NEW TABLE AS is_now FOR EACH STATEMENT EXECUTE FUNCTION rotord.addresses_changed();
CREATE TRIGGER addresses_deleted AFTER DELETE ON rotord.addresses
  REFERENCING OLD TABLE AS was FOR EACH STATEMENT EXECUTE FUNCTION rotord.addresses_changed();

-- Rules that no CHECK can hold: a time zone that exists (all names are read from disk, so only for one no other client has), and the
-- one spelling of a suppressed mailbox, so that a person may type it as it comes. One that was forgotten stays so, whoever tells of it.
CREATE FUNCTION rotord.clients_timezone() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rotord, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM rotord.clients AS c WHERE c.timezone = NEW.timezone)
     AND NOT EXISTS (SELECT FROM pg_timezone_names AS z WHERE z.name = NEW.timezone) THEN
    RAISE EXCEPTION 'there is no time zone "%"', NEW.timezone
      USING ERRCODE = 'check_violation', SCHEMA = 'rotord', TABLE = 'clients', COLUMN = 'timezone',
            CONSTRAINT = 'clients_timezone_exists', HINT = 'Write it as in Europe/Berlin; SELECT name FROM pg_timezone_names lists them.';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER clients_timezone BEFORE INSERT OR UPDATE OF timezone ON rotord.clients
  FOR EACH ROW WHEN (NEW.timezone <> 'UTC') EXECUTE FUNCTION rotord.clients_timezone();

CREATE FUNCTION rotord.suppressions_spelling() RETURNS trigger
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
CREATE TRIGGER suppressions_spelling BEFORE INSERT OR UPDATE OF recipient ON rotord.suppressions
  FOR EACH ROW EXECUTE FUNCTION rotord.suppressions_spelling();

-- What to read (security_invoker: with the reader's own rights, so the policies below hold here too).
CREATE VIEW rotord.messages WITH (security_invoker = true) AS
SELECT o.id, o.client, o.campaign, o.recipient, o.kind,
       CASE WHEN q.state IN ('queued', 'scheduled', 'waiting') THEN 'queued' ELSE coalesce(q.state, s.status) END AS status,
       s.delivery,
       coalesce(s.sender, a.address) AS sender,
       coalesce(s.provider, a.provider) AS provider,
       coalesce(s.provider_message_id, a.provider_message_id) AS provider_message_id,
       coalesce(s.message_id, q.message_id) AS message_id,
       coalesce(s.attempts, q.attempts) AS attempts,
       coalesce(s.last_error, q.last_error) AS last_error,
       o.created_at, s.sent_at, s.settled_at, s.replied_at
FROM rotord.outbox AS o
LEFT JOIN rotord.message_state AS s ON s.id = o.id
LEFT JOIN rotord.queue AS q ON q.id = o.id
LEFT JOIN rotord.attempts AS a ON a.id = q.attempt;

-- Used is what counts against the limits: all but the proven not accepted, from begin until the window after the finish, at the latest
-- after the deadline. 25 hours of ids: a day and the longest time an attempt may take. What was sent elsewhere before counts one day.
CREATE VIEW rotord.address_status WITH (security_invoker = true) AS
SELECT a.email AS address, a.domain, d.client, now_is.state, now_is.reason, now_is.since, now_is.until,
       coalesce(used.hour, 0) AS used_hour,
       coalesce(used.day, 0)
         + CASE WHEN a.used_day_at > statement_timestamp() - interval '24 hours' THEN a.used_day ELSE 0 END AS used_day,
       a.per_hour, a.per_day,
       NULL::real AS score
FROM rotord.addresses AS a
JOIN rotord.domains AS d ON d.name = a.domain
JOIN rotord.clients AS c ON c.slug = d.client
CROSS JOIN LATERAL (
  SELECT v.state, v.reason, v.since, v.until
  FROM (VALUES
    (CASE a.status WHEN 'active' THEN NULL ELSE a.status END, 'a person set the address to ' || a.status, NULL::timestamptz, NULL::timestamptz),
    (CASE d.status WHEN 'active' THEN NULL ELSE d.status END, 'a person set the domain to ' || d.status, NULL, NULL),
    (CASE c.status WHEN 'active' THEN NULL ELSE c.status END, 'a person set the client to ' || c.status, NULL, NULL),
    (a.health, a.health_reason, a.health_since, a.health_until),
    (d.health, 'domain: ' || d.health_reason, d.health_since, d.health_until)) AS v (state, reason, since, until)
  ORDER BY array_position(ARRAY['disabled', 'paused', 'cooling', 'probation', 'suspicious', 'healthy'], v.state)
  LIMIT 1) AS now_is
LEFT JOIN (
  SELECT t.address,
         count(*) FILTER (WHERE least(t.finished_at, t.deadline_at) > statement_timestamp() - interval '1 hour') AS hour,
         count(*) AS day
  FROM rotord.attempts AS t
  WHERE t.id >= (extract(epoch FROM statement_timestamp() - interval '25 hours') * 1000)::bigint << 20
    AND (t.outcome IS NULL OR t.outcome IN ('accepted', 'uncertain'))
    AND least(t.finished_at, t.deadline_at) > statement_timestamp() - interval '24 hours'
  GROUP BY t.address) AS used ON used.address = a.email;

-- All of a campaign.
CREATE VIEW rotord.campaign_stats WITH (security_invoker = true) AS
SELECT c.client, c.name AS campaign, c.status, c.created_at, sums.*
FROM rotord.campaigns AS c
CROSS JOIN LATERAL (
  SELECT coalesce(sum(d.sent), 0) AS sent, coalesce(sum(d.delivered), 0) AS delivered, coalesce(sum(d.bounced), 0) AS bounced,
         coalesce(sum(d.complained), 0) AS complained, coalesce(sum(d.replied), 0) AS replied,
         coalesce(sum(d.unsubscribed), 0) AS unsubscribed
  FROM rotord.daily_stats AS d
  WHERE d.client = c.client AND d.campaign = c.name AND d.campaign <> '') AS sums;

-- Who may do what. The daemon is the owner, for whom policies do not count. An app is a role that `rotord app add` made a member of
-- rotord_app; it sees the rows of its clients. current_user, so that a pooler that logs in once and says SET ROLE is held too.
REVOKE ALL ON SCHEMA rotord FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA rotord FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA rotord FROM PUBLIC;
GRANT USAGE ON SCHEMA rotord TO rotord_app;
GRANT EXECUTE ON FUNCTION rotord.is_address, rotord.is_line, rotord.lower_case TO rotord_app;  -- its INSERTs are checked with its own rights
GRANT INSERT (client, recipient, recipient_name, subject, body_text, body_html, stream, campaign, kind, sender, thread_key, reply_to, headers,
              attachments, metadata, priority, send_after, expires_at, on_uncertain, idempotency_key, cancelled_at),
      UPDATE (cancelled_at),
      SELECT (id, client, recipient, recipient_name, subject, stream, campaign, kind, sender, thread_key, reply_to, headers, metadata, priority,
              send_after, expires_at, on_uncertain, idempotency_key, cancelled_at, created_at, blanked_at)
  ON rotord.outbox TO rotord_app;
GRANT SELECT (id, client, state, attempts, attempt, message_id, last_error) ON rotord.queue TO rotord_app;
GRANT SELECT ON rotord.message_state, rotord.attempts, rotord.suppressions, rotord.campaigns, rotord.clients, rotord.domains,
  rotord.addresses, rotord.app_clients, rotord.messages, rotord.address_status TO rotord_app;

ALTER TABLE rotord.app_clients ENABLE ROW LEVEL SECURITY;
ALTER TABLE rotord.clients ENABLE ROW LEVEL SECURITY;
ALTER TABLE rotord.domains ENABLE ROW LEVEL SECURITY;
ALTER TABLE rotord.addresses ENABLE ROW LEVEL SECURITY;
ALTER TABLE rotord.campaigns ENABLE ROW LEVEL SECURITY;
ALTER TABLE rotord.outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE rotord.queue ENABLE ROW LEVEL SECURITY;
ALTER TABLE rotord.message_state ENABLE ROW LEVEL SECURITY;
ALTER TABLE rotord.attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE rotord.threads ENABLE ROW LEVEL SECURITY;
ALTER TABLE rotord.suppressions ENABLE ROW LEVEL SECURITY;
-- ARRAY(SELECT ...) is computed once a statement and can be looked up in an index.
CREATE POLICY own ON rotord.app_clients FOR SELECT TO rotord_app USING (role = current_user);
CREATE POLICY own ON rotord.clients FOR SELECT TO rotord_app USING (slug = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));
CREATE POLICY own ON rotord.domains FOR SELECT TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));
CREATE POLICY own ON rotord.addresses FOR SELECT TO rotord_app USING (domain = ANY (ARRAY(SELECT d.name FROM rotord.domains AS d)));
CREATE POLICY own ON rotord.campaigns FOR SELECT TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));
CREATE POLICY own ON rotord.outbox TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));
CREATE POLICY own ON rotord.queue FOR SELECT TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));
CREATE POLICY own ON rotord.message_state FOR SELECT TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));
CREATE POLICY own ON rotord.attempts FOR SELECT TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));
CREATE POLICY own ON rotord.suppressions FOR SELECT TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));

-- What providers posted, as it came: stored before it is answered, folded into events after. A token (Mailgun's own, else a digest) is taken
-- once; `digest` tells the same post again from another one under its token.
CREATE TABLE rotord.provider_posts (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  provider     text COLLATE "C" NOT NULL,
  route        text COLLATE "C" NOT NULL,                     -- webhooks, inbound
  token        text COLLATE "C" NOT NULL,
  digest       bytea NOT NULL,
  content_type text NOT NULL,
  body         bytea NOT NULL,
  received_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  folded_at    timestamptz,
  unknown      text[],                                        -- events in it that no table knows: kept here, counted
  fault        text,                                          -- why it could not be read
  erased_at    timestamptz,                                   -- it told of somebody who was forgotten: its body is gone
  CONSTRAINT provider_posts_token_is_taken_once UNIQUE (provider, token),
  CONSTRAINT provider_posts_route_is_known CHECK (route IN ('webhooks', 'inbound'))
);
CREATE INDEX provider_posts_unfolded ON rotord.provider_posts (id) WHERE folded_at IS NULL;
CREATE INDEX provider_posts_received_at ON rotord.provider_posts (received_at);

-- What happened to messages, once each: `key` is made of what does not change when a provider tells it again. Written by one statement of
-- the leader's at a time, so that whoever has read up to an id has read everything below it. Partitions are months, made by the leader.
CREATE SEQUENCE rotord.events_id;
CREATE TABLE rotord.events (
  id          bigint NOT NULL DEFAULT nextval('rotord.events_id'),
  outbox_id   bigint,
  client      text COLLATE "C",                               -- the message's; NULL with outbox_id
  provider    text COLLATE "C" NOT NULL,
  kind        text COLLATE "C" NOT NULL,
  occurred_at timestamptz NOT NULL,
  received_at timestamptz NOT NULL,
  recipient   text COLLATE "C" NOT NULL,
  reason      text NOT NULL DEFAULT '',
  raw_id      bigint,                                         -- its post, for as long as that is kept
  attempt_id  bigint,
  provider_message_id text,
  key         bytea NOT NULL,
  CONSTRAINT events_happen_once UNIQUE (occurred_at, provider, key),
  CONSTRAINT events_kind_is_known CHECK (kind IN ('accepted', 'delivered', 'deferred', 'bounced', 'dropped', 'complained', 'unsubscribed',
    'opened', 'clicked', 'replied'))
) PARTITION BY RANGE (occurred_at);
CREATE INDEX events_by_id ON rotord.events (id);
CREATE INDEX events_outbox ON rotord.events (outbox_id);
CREATE INDEX events_of_nobody ON rotord.events (recipient) WHERE outbox_id IS NULL;  -- for whoever is to be forgotten
CREATE TABLE rotord.events_other PARTITION OF rotord.events DEFAULT;

-- Messages with events that were not settled yet when those came: a webhook may be faster than the answer to the send.
CREATE TABLE rotord.event_waits (
  outbox_id bigint PRIMARY KEY
);

GRANT SELECT ON rotord.events TO rotord_app;
ALTER TABLE rotord.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON rotord.events FOR SELECT TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));
GRANT SELECT ON rotord.daily_stats, rotord.campaign_stats TO rotord_app;
ALTER TABLE rotord.daily_stats ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON rotord.daily_stats FOR SELECT TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));

-- How far the providers' own suppression lists have been read: a row a list, of a domain or ('') of the account. A pass reads all of its
-- pages, or of those that tell times what is new since the begin of the pass before.
CREATE TABLE rotord.list_pulls (
  provider  text COLLATE "C" NOT NULL,
  list      text COLLATE "C" NOT NULL,
  domain    text COLLATE "C" NOT NULL,
  cursor    text NOT NULL DEFAULT '',                          -- of the page that is next; '' = the first
  began_at  timestamptz,                                       -- of the pass under way; NULL = none
  passed_at timestamptz,                                       -- when the last complete pass began
  entries   bigint NOT NULL DEFAULT 0,                         -- of the pass under way, else of the last
  fault     text NOT NULL DEFAULT '',                          -- why it could not be read
  PRIMARY KEY (provider, list, domain)
);

-- How far suppressions have been added to those lists: all up to pushed, of a client ('' = those for everybody) and a reason.
CREATE TABLE rotord.list_pushes (
  provider text COLLATE "C" NOT NULL,
  domain   text COLLATE "C" NOT NULL,
  client   text COLLATE "C" NOT NULL,
  reason   text COLLATE "C" NOT NULL,
  pushed   bigint NOT NULL DEFAULT 0,
  mark     bigint NOT NULL DEFAULT 0,                          -- the newest suppression at one moment, and the transactions that were
  mark_xid xid8,                                               -- open then: once they are over, nothing below it can appear any more
  fault    text NOT NULL DEFAULT '',                           -- what was refused
  PRIMARY KEY (provider, domain, client, reason)
);

-- Posts that were refused, by the minute: every node counts, the leader alerts. `foreign`: events of a message that went to another provider.
CREATE TABLE rotord.refused_posts (
  minute   timestamptz NOT NULL,
  provider text COLLATE "C" NOT NULL,
  reason   text COLLATE "C" NOT NULL,
  count    bigint NOT NULL,
  PRIMARY KEY (minute, provider, reason)
);

-- The versions this file contains; one line for each file of rotord/migrations/.
INSERT INTO rotord.schema_version (version, breaking) VALUES (1, false), (2, false), (3, false), (4, false), (5, false), (6, false), (7, false), (8, false), (9, false);
