-- What several replicas of a hub share, as 003 of SQLite.

CREATE TABLE secrets (
  name  text COLLATE "C" PRIMARY KEY,
  value bytea NOT NULL
);

CREATE TABLE replicas (
  id     text COLLATE "C" PRIMARY KEY,
  number bigint NOT NULL,
  url    text NOT NULL,
  beat   bigint NOT NULL
);

CREATE TABLE sightings (
  node    text COLLATE "C" PRIMARY KEY,
  replica text COLLATE "C" NOT NULL,
  counter bigint NOT NULL,
  body    text NOT NULL,
  changed bigint NOT NULL
);

CREATE INDEX sightings_changed ON sightings (changed);
