CREATE TABLE releases (
  version  TEXT COLLATE "C" NOT NULL,
  platform TEXT COLLATE "C" NOT NULL,
  digest   TEXT NOT NULL,
  body     TEXT NOT NULL,
  PRIMARY KEY (version, platform)
);

CREATE TABLE release_chunks (
  digest TEXT   NOT NULL,
  number BIGINT NOT NULL,
  data   BYTEA  NOT NULL,
  PRIMARY KEY (digest, number)
);

CREATE TABLE upgrades (
  id   BIGINT PRIMARY KEY,
  over BOOLEAN NOT NULL,
  body TEXT NOT NULL
);
