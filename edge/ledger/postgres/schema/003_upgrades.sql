CREATE TABLE releases (
  version  TEXT COLLATE "C" NOT NULL,
  platform TEXT COLLATE "C" NOT NULL,
  body     TEXT NOT NULL,
  PRIMARY KEY (version, platform)
);

CREATE TABLE upgrades (
  id   BIGINT PRIMARY KEY,
  over BOOLEAN NOT NULL,
  body TEXT NOT NULL
);
