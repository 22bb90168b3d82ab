CREATE TABLE releases (
  version  TEXT NOT NULL,
  platform TEXT NOT NULL,
  body     TEXT NOT NULL,
  PRIMARY KEY (version, platform)
) STRICT;

CREATE TABLE upgrades (
  id   INTEGER PRIMARY KEY,
  over INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT;
