-- Sessions that outlive their connection.
CREATE TABLE sessions (
	user    TEXT    NOT NULL,
	client  TEXT    NOT NULL,
	name    TEXT    NOT NULL, -- what the agent knows the session by; another one when the session is new
	expiry  INTEGER NOT NULL, -- seconds that it outlives its connection
	PRIMARY KEY (user, client)
) STRICT, WITHOUT ROWID;

CREATE TABLE subscriptions (
	user         TEXT    NOT NULL,
	client       TEXT    NOT NULL,
	filter       TEXT    NOT NULL, -- as the client wrote it, $share included
	qos          INTEGER NOT NULL,
	no_local     INTEGER NOT NULL,
	as_published INTEGER NOT NULL,
	identifier   INTEGER NOT NULL, -- of MQTT 5, or 0
	PRIMARY KEY (user, client, filter),
	FOREIGN KEY (user, client) REFERENCES sessions ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- What a session has not acknowledged.
CREATE TABLE messages (
	row         INTEGER PRIMARY KEY AUTOINCREMENT,
	user        TEXT    NOT NULL,
	client      TEXT    NOT NULL,
	seq         INTEGER NOT NULL, -- order within the session
	packet      INTEGER NOT NULL, -- packet id if it was sent before an orderly end, else 0
	retain      INTEGER NOT NULL,
	topic       TEXT    NOT NULL,
	payload     BLOB    NOT NULL,
	properties  BLOB    NOT NULL, -- of MQTT 5, as on the wire
	identifiers TEXT    NOT NULL, -- subscription identifiers of MQTT 5, as JSON
	expires     INTEGER NOT NULL, -- unix seconds, or 0
	FOREIGN KEY (user, client) REFERENCES sessions ON DELETE CASCADE
) STRICT;
CREATE INDEX messages_of_session ON messages (user, client);

CREATE TABLE retained (
	topic      TEXT    PRIMARY KEY,
	payload    BLOB    NOT NULL,
	properties BLOB    NOT NULL,
	qos        INTEGER NOT NULL,
	expires    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
