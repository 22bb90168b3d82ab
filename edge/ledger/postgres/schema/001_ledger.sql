-- The tables of the hub, as SQLite has them: the Go files of package ledger say what
-- their rows mean. Times are nanoseconds since 1970, 0 for none. Text is compared byte
-- by byte, as SQLite does.

CREATE TABLE meta (
  name  TEXT COLLATE "C" PRIMARY KEY,
  value TEXT NOT NULL
);

INSERT INTO meta (name, value) VALUES ('position', '0');

CREATE TABLE functions (
  name     TEXT COLLATE "C" PRIMARY KEY,
  revision TEXT COLLATE "C" NOT NULL,
  enabled  BOOLEAN NOT NULL,
  selector TEXT NOT NULL
);

CREATE TABLE revisions (
  name      TEXT COLLATE "C" NOT NULL,
  revision  TEXT COLLATE "C" NOT NULL,
  body      TEXT NOT NULL,
  signature TEXT NOT NULL,
  PRIMARY KEY (name, revision)
);

CREATE TABLE history (
  number   BIGINT PRIMARY KEY,
  name     TEXT COLLATE "C" NOT NULL,
  action   TEXT NOT NULL,
  revision TEXT COLLATE "C" NOT NULL,
  time     BIGINT NOT NULL,
  by       TEXT NOT NULL
);

CREATE INDEX history_name ON history (name, number);

CREATE TABLE removals (
  position  BIGINT PRIMARY KEY,
  function  TEXT NOT NULL,
  node      TEXT NOT NULL,
  purge     BOOLEAN NOT NULL,
  confirmed BOOLEAN NOT NULL
);

CREATE TABLE epochs (
  epoch    TEXT COLLATE "C" PRIMARY KEY,
  position BIGINT NOT NULL
);

CREATE TABLE rollouts (
  id       BIGINT PRIMARY KEY,
  function TEXT COLLATE "C" NOT NULL,
  before   TEXT COLLATE "C" NOT NULL,
  over     BOOLEAN NOT NULL,
  removes  INTEGER NOT NULL,
  body     TEXT NOT NULL
);

CREATE INDEX rollouts_function ON rollouts (function, id);
CREATE UNIQUE INDEX rollouts_under_way ON rollouts (function) WHERE NOT over;

CREATE TABLE nodes (
  id       TEXT COLLATE "C" PRIMARY KEY,
  name     TEXT COLLATE "C" NOT NULL,
  key      BYTEA NOT NULL,
  labels   TEXT NOT NULL,
  standing TEXT NOT NULL,
  why      TEXT NOT NULL,
  cordoned BOOLEAN NOT NULL,
  joined   BIGINT NOT NULL,
  token    TEXT NOT NULL,
  counter  BIGINT NOT NULL,
  address  TEXT NOT NULL,
  seen     BIGINT NOT NULL,
  version  TEXT NOT NULL,
  platform TEXT NOT NULL,
  epoch    TEXT NOT NULL,
  revision BIGINT NOT NULL,
  digest   TEXT NOT NULL,
  changed  BIGINT NOT NULL
) WITH (fillfactor = 70); -- most updates touch no index, and so stay on their page

CREATE UNIQUE INDEX nodes_name ON nodes (name) WHERE standing NOT IN ('revoked', 'departed');
CREATE INDEX nodes_order ON nodes (name, id);
CREATE INDEX nodes_changed ON nodes (changed);

CREATE TABLE tokens (
  id       TEXT COLLATE "C" PRIMARY KEY,
  secret   BYTEA NOT NULL,
  labels   TEXT NOT NULL,
  uses     BIGINT NOT NULL,
  approval BOOLEAN NOT NULL,
  expires  BIGINT NOT NULL,
  by       TEXT NOT NULL,
  made     BIGINT NOT NULL,
  wrong    BIGINT NOT NULL
);

CREATE TABLE operators (
  name    TEXT COLLATE "C" PRIMARY KEY,
  role    TEXT NOT NULL,
  scope   TEXT NOT NULL,
  token   BYTEA NOT NULL UNIQUE,
  by      TEXT NOT NULL,
  made    BIGINT NOT NULL,
  used    BIGINT NOT NULL,
  expires BIGINT NOT NULL
);

CREATE TABLE audit (
  number  BIGINT PRIMARY KEY,
  time    BIGINT NOT NULL,
  by      TEXT NOT NULL,
  address TEXT NOT NULL,
  action  TEXT NOT NULL,
  object  TEXT COLLATE "C" NOT NULL,
  detail  TEXT NOT NULL,
  hash    TEXT NOT NULL
);

CREATE INDEX audit_object ON audit (object, number);
