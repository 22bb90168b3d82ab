-- The tables of the hub. ledger.go says what their rows mean. Times are
-- nanoseconds since 1970.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE functions (
  name     TEXT PRIMARY KEY,
  revision TEXT NOT NULL,
  enabled  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revisions (
  name     TEXT NOT NULL,
  revision TEXT NOT NULL,
  body     TEXT NOT NULL,
  PRIMARY KEY (name, revision)
) STRICT;

CREATE TABLE history (
  number   INTEGER PRIMARY KEY AUTOINCREMENT,
  name     TEXT NOT NULL,
  action   TEXT NOT NULL,
  revision TEXT NOT NULL,
  time     INTEGER NOT NULL,
  by       TEXT NOT NULL
) STRICT;

CREATE INDEX history_name ON history (name, number);
