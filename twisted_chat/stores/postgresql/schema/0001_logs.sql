-- The logs of all rooms, and what is remembered of people.  Each file here is one step; a step that was released is never changed.
--
-- Texts are kept in the form of escaping.py: U+0000, which PostgreSQL's text cannot hold, and two other control characters are
-- two characters.  COLLATE "C" orders by code point, as everything else in the server does.

CREATE TABLE twisted_chat.meta (  -- epoch, secret
    name  text PRIMARY KEY,
    value bytea NOT NULL
);

CREATE TABLE twisted_chat.probe (  -- what the probe of readiness counts up
    id     boolean PRIMARY KEY DEFAULT true CHECK (id),
    number bigint NOT NULL DEFAULT 0
);

CREATE TABLE twisted_chat.news (  -- the number of the last change of rooms (made, archived, opened again)
    id     boolean PRIMARY KEY DEFAULT true CHECK (id),
    number bigint NOT NULL DEFAULT 0
);

INSERT INTO twisted_chat.probe DEFAULT VALUES;
INSERT INTO twisted_chat.news DEFAULT VALUES;

-- No column that an append changes is in an index (oldest only when nothing else is kept), so that the update is a HOT one.
CREATE TABLE twisted_chat.room (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text COLLATE "C" NOT NULL UNIQUE,
    head         bigint NOT NULL DEFAULT 0,
    batch        text NOT NULL DEFAULT '',   -- of the event at the head, also when it is not kept any more
    purged       bigint NOT NULL DEFAULT 0,  -- retention has taken the numbers up to this one
    topic        text NOT NULL DEFAULT '',
    archived     boolean NOT NULL DEFAULT false,
    oldest       bigint,                     -- the time of the oldest event that is kept; NULL when nothing is kept
    news         bigint NOT NULL,            -- the number of the last time that it was made, archived or opened again
    changed      xid8                        -- the transaction that appended last
) WITH (fillfactor = 50);

CREATE INDEX room_oldest ON twisted_chat.room (oldest, name) WHERE oldest IS NOT NULL;
CREATE INDEX room_news ON twisted_chat.room (news);

CREATE TABLE twisted_chat.event (
    room     bigint NOT NULL,
    seq      bigint NOT NULL,
    at       bigint NOT NULL,        -- milliseconds since 1970
    of       bigint,                 -- the message that this one answers or amends
    revision integer,                -- of an edit
    kind     smallint NOT NULL,      -- 1 message, 2 edit, 3 delete, 4 reaction, 5 topic
    state    boolean,                -- of a message: whether it is gone; of a reaction: whether it was put there
    batch    text NOT NULL,          -- the event's id is batch-seq
    author   text COLLATE "C" NOT NULL,
    name     text NOT NULL,          -- of the author, at that moment
    key      text COLLATE "C",
    text     text,                   -- of a reaction: the emoji
    data     bytea,
    PRIMARY KEY (room, seq)
);

CREATE UNIQUE INDEX event_key ON twisted_chat.event (room, author, key) WHERE key IS NOT NULL;

-- Pages show messages and topics, and do not read over everything that amends them.
CREATE INDEX event_shown ON twisted_chat.event (room, seq) WHERE kind IN (1, 5);
-- The last edit of a message shows its present text.
CREATE INDEX event_edit ON twisted_chat.event (room, of, seq) WHERE kind = 2;

CREATE TABLE twisted_chat.reaction (  -- the emoji that are on a message now
    room   bigint NOT NULL,
    of     bigint NOT NULL,
    emoji  text COLLATE "C" NOT NULL,
    person text COLLATE "C" NOT NULL,
    seq    bigint NOT NULL,
    PRIMARY KEY (room, of, emoji, person)
);

CREATE INDEX reaction_order ON twisted_chat.reaction (room, of, emoji, seq);

CREATE TABLE twisted_chat.reacted (  -- how many people put each emoji on a message: a page reads these, and the first names
    room  bigint NOT NULL,
    of    bigint NOT NULL,
    emoji text COLLATE "C" NOT NULL,
    place bigint NOT NULL,  -- the seq at which the emoji came to the message: its place among the others
    count bigint NOT NULL,
    PRIMARY KEY (room, of, emoji)
);

CREATE TABLE twisted_chat.erasing (  -- deleted messages of which some edits still have their texts; who reads is not shown them
    room bigint NOT NULL,
    of   bigint NOT NULL,
    done bigint NOT NULL,  -- the edits up to this number are erased
    PRIMARY KEY (room, of)
);

CREATE TABLE twisted_chat.read_mark (
    person text COLLATE "C" NOT NULL,
    room   bigint NOT NULL,
    seq    bigint NOT NULL,
    PRIMARY KEY (person, room)
);

CREATE TABLE twisted_chat.token (
    id          text PRIMARY KEY,
    secret_hash bytea NOT NULL UNIQUE,  -- SHA-256
    person      text NOT NULL,
    name        text NOT NULL,
    created     bigint NOT NULL,
    expires     bigint,
    revoked     bigint,
    rights      text NOT NULL           -- a JSON array
);

CREATE INDEX token_revoked ON twisted_chat.token (revoked) WHERE revoked IS NOT NULL;

CREATE TABLE twisted_chat.cursor (  -- how far readers that are programs have come
    reader text COLLATE "C" NOT NULL,
    room   text COLLATE "C" NOT NULL,
    epoch  text NOT NULL,
    seq    bigint NOT NULL,
    event  text,              -- the id of the event at seq; NULL at 0
    PRIMARY KEY (reader, room)
);

-- One row for each connection that appends.  An append updates the row of its connection in its own transaction, so the row tells
-- what was committed last.  Who closes it has waited for the transaction in progress, and one that comes later over that connection
-- writes nothing.
CREATE TABLE twisted_chat.writer (
    id     text PRIMARY KEY,
    used   timestamptz NOT NULL DEFAULT now(),
    closed boolean NOT NULL DEFAULT false,
    batch  bigint NOT NULL DEFAULT 0,         -- the number of the last batch of this connection
    heads  bigint[] NOT NULL DEFAULT '{}'     -- of its rooms, before it
) WITH (fillfactor = 50);

CREATE TABLE twisted_chat.lease (  -- what one server at a time does
    name   text PRIMARY KEY,
    holder text NOT NULL,
    until  timestamptz NOT NULL
);

CREATE TABLE twisted_chat.node (  -- the servers that are running
    id        text PRIMARY KEY,
    since     timestamptz NOT NULL DEFAULT now(),
    heartbeat timestamptz NOT NULL DEFAULT now()
);
