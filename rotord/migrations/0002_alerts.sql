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
