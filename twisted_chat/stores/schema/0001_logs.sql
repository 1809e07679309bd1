-- The logs of all rooms, and what is remembered of people.  Each file here is one step; a step that was released is never changed.

CREATE TABLE meta (  -- epoch, secret, and a number that the probe of readiness counts up
    name  TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

CREATE TABLE room (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    purged       INTEGER NOT NULL DEFAULT 0,  -- retention has taken the numbers up to this one
    purged_batch TEXT NOT NULL DEFAULT '',    -- of the event at that number: the head's id when nothing is kept
    topic        TEXT NOT NULL DEFAULT '',
    archived     INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The log.  The head of a room is its greatest seq and stands nowhere else, so that a commit writes one row per event.
-- Without rowid: a room's events lie side by side.  A full-text index can take room and seq as its key.
CREATE TABLE event (
    room   INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    batch  TEXT NOT NULL,     -- the event's id is batch-seq
    at     INTEGER NOT NULL,  -- milliseconds since 1970
    kind   INTEGER NOT NULL,  -- 1 message, 2 edit, 3 delete, 4 reaction, 5 topic
    author TEXT NOT NULL,
    name   TEXT NOT NULL,     -- of the author, at that moment
    key    TEXT,
    text   TEXT,
    extra  TEXT,              -- the other fields as a JSON object
    data   BLOB,
    PRIMARY KEY (room, seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX event_key ON event (room, author, key) WHERE key IS NOT NULL;

CREATE TABLE edit (  -- which events edited a message; the last one shows its present text
    room INTEGER NOT NULL,
    of   INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    PRIMARY KEY (room, of, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE reaction (  -- the emoji that are on a message now
    room   INTEGER NOT NULL,
    of     INTEGER NOT NULL,
    emoji  TEXT NOT NULL,
    person TEXT NOT NULL,
    place  INTEGER NOT NULL,  -- the seq at which the emoji came to the message: its place among the others
    seq    INTEGER NOT NULL,
    PRIMARY KEY (room, of, emoji, person)
) STRICT, WITHOUT ROWID;

CREATE TABLE read_mark (
    person TEXT NOT NULL,
    room   INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (person, room)
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
    id          TEXT PRIMARY KEY,
    secret_hash BLOB NOT NULL UNIQUE,  -- SHA-256
    person      TEXT NOT NULL,
    name        TEXT NOT NULL,
    created     INTEGER NOT NULL,
    expires     INTEGER,
    revoked     INTEGER,
    rights      TEXT NOT NULL          -- a JSON array
) STRICT, WITHOUT ROWID;

CREATE INDEX token_revoked ON token (revoked) WHERE revoked IS NOT NULL;
