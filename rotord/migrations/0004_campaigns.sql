-- Campaigns with a window and a word on replies of their own; statistics; who pressed a link. Builds an index on the outbox, which locks
-- it for inserts meanwhile (about a second for a million rows).
ALTER TABLE rotord.campaigns DROP CONSTRAINT campaigns_status_is_active_paused_or_disabled;
UPDATE rotord.campaigns SET status = 'paused' WHERE status = 'disabled';
ALTER TABLE rotord.campaigns
  ADD COLUMN sending_window text,
  ADD COLUMN stop_on_reply boolean NOT NULL DEFAULT false,
  ADD CONSTRAINT campaigns_status_is_active_paused_cancelled_or_done CHECK (status IN ('active', 'paused', 'cancelled', 'done')),
  ADD CONSTRAINT campaigns_sending_window_reads_mon_fri_0800_1900 CHECK (sending_window ~* replace(replace(replace(
    '^ *window( *; *window)* *$',
    'window', 'day( *[,-] *day)* +time *- *time( *, *time *- *time)*'),
    'day', '(mon|tue|wed|thu|fri|sat|sun|daily)'),
    'time', '([01]?[0-9]|2[0-4]):[0-5][0-9]'));
GRANT EXECUTE ON FUNCTION rotord.lower_case TO rotord_app;  -- its INSERTs fill the index below with its own rights
CREATE INDEX outbox_recipient ON rotord.outbox (rotord.lower_case(recipient));

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

CREATE VIEW rotord.campaign_stats WITH (security_invoker = true) AS
SELECT c.client, c.name AS campaign, c.status, c.created_at, sums.*
FROM rotord.campaigns AS c
CROSS JOIN LATERAL (
  SELECT coalesce(sum(d.sent), 0) AS sent, coalesce(sum(d.delivered), 0) AS delivered, coalesce(sum(d.bounced), 0) AS bounced,
         coalesce(sum(d.complained), 0) AS complained, coalesce(sum(d.replied), 0) AS replied,
         coalesce(sum(d.unsubscribed), 0) AS unsubscribed
  FROM rotord.daily_stats AS d
  WHERE d.client = c.client AND d.campaign = c.name AND d.campaign <> '') AS sums;

GRANT SELECT ON rotord.daily_stats, rotord.campaign_stats TO rotord_app;
ALTER TABLE rotord.daily_stats ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON rotord.daily_stats FOR SELECT TO rotord_app USING (client = ANY (ARRAY(SELECT m.client FROM rotord.app_clients AS m)));
