-- Retention looks only at rooms that have something old: the time of the oldest event that is kept, by index.
ALTER TABLE room ADD COLUMN oldest INTEGER;  -- NULL when nothing is kept

UPDATE room SET oldest = (SELECT at FROM event WHERE event.room = room.id ORDER BY seq LIMIT 1);

CREATE INDEX room_oldest ON room (oldest, name) WHERE oldest IS NOT NULL;

-- A page shows how many people put each emoji on a message and the first of them, and need not read all.
CREATE TABLE reacted (  -- the emoji that are on a message now
    room  INTEGER NOT NULL,
    of    INTEGER NOT NULL,
    emoji TEXT NOT NULL,
    place INTEGER NOT NULL,  -- the seq at which the emoji came to the message: its place among the others
    count INTEGER NOT NULL,
    PRIMARY KEY (room, of, emoji)
) STRICT, WITHOUT ROWID;

INSERT INTO reacted SELECT room, of, emoji, min(place), count(*) FROM reaction GROUP BY room, of, emoji;

ALTER TABLE reaction DROP COLUMN place;

CREATE INDEX reaction_order ON reaction (room, of, emoji, seq);

CREATE TABLE erasing (  -- deleted messages of which some edits still have their texts; who reads is not shown them
    room INTEGER NOT NULL,
    of   INTEGER NOT NULL,
    PRIMARY KEY (room, of)
) STRICT, WITHOUT ROWID;

-- The server asks for rooms that were made, archived or opened again since its last look, by whatever process.
ALTER TABLE room ADD COLUMN news INTEGER;  -- the number of the last such change

CREATE INDEX room_news ON room (news) WHERE news IS NOT NULL;

CREATE TRIGGER room_made AFTER INSERT ON room BEGIN
    UPDATE room SET news = (SELECT coalesce(max(news), 0) + 1 FROM room WHERE news IS NOT NULL) WHERE id = new.id;
END;

CREATE TRIGGER room_archived AFTER UPDATE OF archived ON room WHEN old.archived <> new.archived BEGIN
    UPDATE room SET news = (SELECT coalesce(max(news), 0) + 1 FROM room WHERE news IS NOT NULL) WHERE id = new.id;
END;
