-- What providers tell: their posts as they came, and the events in them.
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
CREATE TABLE rotord.events_other PARTITION OF rotord.events DEFAULT;

-- Messages with events that were not settled yet when those came: a webhook may be faster than the answer to the send.
CREATE TABLE rotord.event_waits (
  outbox_id bigint PRIMARY KEY
);

GRANT SELECT ON rotord.events TO rotord_app;
ALTER TABLE rotord.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON rotord.events FOR SELECT TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));
