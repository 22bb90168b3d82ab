-- The tables of a node. The head of the Go file that owns a table says what its
-- rows mean. Times are nanoseconds since 1970, 0 for none.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE functions (
  name     TEXT PRIMARY KEY,
  revision TEXT NOT NULL,
  good     TEXT NOT NULL,
  enabled  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revisions (
  name     TEXT NOT NULL,
  revision TEXT NOT NULL,
  body     TEXT NOT NULL,
  sum      BLOB NOT NULL,
  PRIMARY KEY (name, revision)
) STRICT;

CREATE TABLE inbox (
  seq      INTEGER PRIMARY KEY,
  function TEXT NOT NULL,
  lane     TEXT NOT NULL,
  attempt  INTEGER NOT NULL,
  due      INTEGER NOT NULL,
  reason   TEXT NOT NULL,
  session  TEXT NOT NULL,
  packet   INTEGER NOT NULL,
  digest   INTEGER NOT NULL,
  key      TEXT NOT NULL,
  size     INTEGER NOT NULL,
  event    TEXT NOT NULL,
  payload  BLOB NOT NULL
) STRICT;

CREATE TABLE outbox (
  seq      INTEGER PRIMARY KEY,
  function TEXT NOT NULL,
  lane     TEXT NOT NULL,
  hops     INTEGER NOT NULL,
  topic    TEXT NOT NULL,
  qos      INTEGER NOT NULL,
  retain   INTEGER NOT NULL,
  payload  BLOB NOT NULL
) STRICT;

CREATE TABLE timers (
  function TEXT NOT NULL,
  kind     TEXT NOT NULL,
  key      TEXT NOT NULL,
  lane     TEXT NOT NULL,
  due      INTEGER NOT NULL,
  boot     TEXT NOT NULL,
  bootdue  INTEGER NOT NULL,
  remains  INTEGER NOT NULL,
  event    TEXT NOT NULL,
  payload  BLOB NOT NULL,
  PRIMARY KEY (function, kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE done (
  function TEXT NOT NULL,
  packet   INTEGER NOT NULL,
  session  TEXT NOT NULL,
  digest   INTEGER NOT NULL,
  PRIMARY KEY (function, packet)
) STRICT, WITHOUT ROWID;

CREATE TABLE dedupe (
  function TEXT NOT NULL,
  key      TEXT NOT NULL,
  until    INTEGER NOT NULL,
  PRIMARY KEY (function, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE state (
  function TEXT NOT NULL,
  key      TEXT NOT NULL,
  version  INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  value    TEXT NOT NULL,
  PRIMARY KEY (function, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX state_expires ON state (expires) WHERE expires > 0;

CREATE TABLE dead (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  function TEXT NOT NULL,
  revision TEXT NOT NULL,
  lane     TEXT NOT NULL,
  seq      INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  time     INTEGER NOT NULL,
  failure  TEXT NOT NULL,
  size     INTEGER NOT NULL,
  event    TEXT NOT NULL,
  payload  BLOB NOT NULL
) STRICT;

CREATE INDEX dead_function ON dead (function, id);

CREATE TABLE gates (
  function TEXT PRIMARY KEY,
  memory   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
