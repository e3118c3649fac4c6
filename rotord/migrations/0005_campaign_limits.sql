-- Campaigns with limits of their own. Attempts name their campaign, so that the limits hold through a restart; of those that were begun
-- before, the outbox is asked.
ALTER TABLE rotord.campaigns
  ADD COLUMN per_hour integer,
  ADD COLUMN per_day integer,
  ADD CONSTRAINT campaigns_per_hour_is_not_negative CHECK (per_hour >= 0),
  ADD CONSTRAINT campaigns_per_day_is_not_negative CHECK (per_day >= 0);
ALTER TABLE rotord.attempts ADD COLUMN campaign text COLLATE "C";
