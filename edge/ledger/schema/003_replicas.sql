-- What several replicas of a hub share. The head of the Go file that owns a table says
-- what its rows mean.

CREATE TABLE secrets (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT;

CREATE TABLE replicas (
  id     TEXT PRIMARY KEY,
  number INTEGER NOT NULL,
  url    TEXT NOT NULL,
  beat   INTEGER NOT NULL
) STRICT;

CREATE TABLE sightings (
  node    TEXT PRIMARY KEY,
  replica TEXT NOT NULL,
  counter INTEGER NOT NULL,
  body    TEXT NOT NULL,
  changed INTEGER NOT NULL
) STRICT;

CREATE INDEX sightings_changed ON sightings (changed);
