-- What people are in rooms: the result of the events of members and sanctions, which retention may remove (kinds of events: 6 settings of
-- the room, 7 member, 8 sanction).
ALTER TABLE room ADD COLUMN settings TEXT;  -- a JSON object; NULL: the usual ones

CREATE TRIGGER room_settings AFTER UPDATE OF settings ON room WHEN old.settings IS NOT new.settings BEGIN
    UPDATE room SET news = (SELECT coalesce(max(news), 0) + 1 FROM room WHERE news IS NOT NULL) WHERE id = new.id;
END;

CREATE TABLE standing (
    room   INTEGER NOT NULL,
    person TEXT NOT NULL,     -- or 'a' and an address or network
    name   TEXT NOT NULL,
    folded TEXT NOT NULL,     -- the name as members are ordered and searched by
    rank   INTEGER NOT NULL,  -- 1 reader, 2 member, 3 moderator, 4 owner; 0: no role
    muted  INTEGER NOT NULL,  -- until when, milliseconds since 1970; 0: not
    banned INTEGER NOT NULL,
    news   INTEGER NOT NULL,  -- the number of the last change; rows stay when nothing is left in them, so that it is told
    PRIMARY KEY (room, person)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX standing_news ON standing (news);

CREATE INDEX standing_person ON standing (person) WHERE rank > 0 OR muted > 0 OR banned > 0;

CREATE INDEX standing_member ON standing (room, rank DESC, folded, person);

CREATE INDEX standing_sanctioned ON standing (room, person) WHERE muted > 0 OR banned > 0;
