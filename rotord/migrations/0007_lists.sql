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
