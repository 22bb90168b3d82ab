-- The hub's book of the fleet. The head of the Go file that owns a table says
-- what its rows mean. Times are nanoseconds since 1970, 0 for none.

INSERT INTO meta (name, value)
  SELECT 'position', coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'history';

ALTER TABLE functions ADD COLUMN selector TEXT NOT NULL DEFAULT '';

ALTER TABLE revisions ADD COLUMN signature TEXT NOT NULL DEFAULT '';

CREATE TABLE removals (
  position  INTEGER PRIMARY KEY,
  function  TEXT NOT NULL,
  node      TEXT NOT NULL,
  purge     INTEGER NOT NULL,
  confirmed INTEGER NOT NULL
) STRICT;

CREATE TABLE epochs (
  epoch    TEXT PRIMARY KEY,
  position INTEGER NOT NULL
) STRICT;

CREATE TABLE rollouts (
  id       INTEGER PRIMARY KEY,
  function TEXT NOT NULL,
  before   TEXT NOT NULL,
  over     INTEGER NOT NULL,
  removes  INTEGER NOT NULL,
  body     TEXT NOT NULL
) STRICT;

CREATE INDEX rollouts_function ON rollouts (function, id);
CREATE UNIQUE INDEX rollouts_under_way ON rollouts (function) WHERE NOT over;

CREATE TABLE nodes (
  id       TEXT PRIMARY KEY,
  name     TEXT NOT NULL,
  key      BLOB NOT NULL,
  labels   TEXT NOT NULL,
  standing TEXT NOT NULL,
  why      TEXT NOT NULL,
  cordoned INTEGER NOT NULL,
  joined   INTEGER NOT NULL,
  token    TEXT NOT NULL,
  counter  INTEGER NOT NULL,
  address  TEXT NOT NULL,
  seen     INTEGER NOT NULL,
  version  TEXT NOT NULL,
  platform TEXT NOT NULL,
  epoch    TEXT NOT NULL,
  revision INTEGER NOT NULL,
  digest   TEXT NOT NULL,
  changed  INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX nodes_name ON nodes (name) WHERE standing NOT IN ('revoked', 'departed');
CREATE INDEX nodes_order ON nodes (name, id);
CREATE INDEX nodes_changed ON nodes (changed);

CREATE TABLE tokens (
  id       TEXT PRIMARY KEY,
  secret   BLOB NOT NULL,
  labels   TEXT NOT NULL,
  uses     INTEGER NOT NULL,
  approval INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  by       TEXT NOT NULL,
  made     INTEGER NOT NULL,
  wrong    INTEGER NOT NULL
) STRICT;

CREATE TABLE operators (
  name    TEXT PRIMARY KEY,
  role    TEXT NOT NULL,
  scope   TEXT NOT NULL,
  token   BLOB NOT NULL UNIQUE,
  by      TEXT NOT NULL,
  made    INTEGER NOT NULL,
  used    INTEGER NOT NULL,
  expires INTEGER NOT NULL
) STRICT;

CREATE TABLE audit (
  number  INTEGER PRIMARY KEY,
  time    INTEGER NOT NULL,
  by      TEXT NOT NULL,
  address TEXT NOT NULL,
  action  TEXT NOT NULL,
  object  TEXT NOT NULL,
  detail  TEXT NOT NULL,
  hash    TEXT NOT NULL
) STRICT;

CREATE INDEX audit_object ON audit (object, number);
