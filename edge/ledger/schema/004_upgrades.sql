CREATE TABLE releases (
  version  TEXT NOT NULL,
  platform TEXT NOT NULL,
  digest   TEXT NOT NULL,
  body     TEXT NOT NULL,
  PRIMARY KEY (version, platform)
) STRICT;

CREATE TABLE release_chunks (
  digest TEXT    NOT NULL,
  number INTEGER NOT NULL,
  data   BLOB    NOT NULL,
  PRIMARY KEY (digest, number)
) STRICT;

CREATE TABLE upgrades (
  id   INTEGER PRIMARY KEY,
  over INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT;
