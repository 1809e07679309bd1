-- What people are in rooms (roles, mutes, bans) and the settings of rooms: the results of events of kinds 6 to 8, in whose transaction they
-- are written.

ALTER TABLE twisted_chat.room ADD COLUMN settings text NOT NULL DEFAULT '';  -- a JSON object; empty: the usual ones

CREATE TABLE twisted_chat.standing (
    room   bigint NOT NULL,
    person text COLLATE "C" NOT NULL,  -- the id of a user or guest, or 'a' and an address or network
    name   text NOT NULL,              -- at the last change
    folded bytea NOT NULL,             -- the folded name in UTF-8, by which members are ordered and searched
    rank   smallint NOT NULL,          -- of the role: 1 reader, 2 member, 3 moderator, 4 owner; 0: none
    muted  bigint NOT NULL,            -- until when, milliseconds since 1970; 0: not
    banned bigint NOT NULL,
    news   bigint NOT NULL,            -- the number of the last change, from table news
    PRIMARY KEY (room, person)
);

-- Rows in which there is nothing left are read by the number of their change only.
CREATE INDEX standing_person ON twisted_chat.standing (person, room) WHERE rank > 0 OR muted > 0 OR banned > 0;
CREATE INDEX standing_members ON twisted_chat.standing (room, rank DESC, folded, person) WHERE rank > 0;
CREATE INDEX standing_sanctions ON twisted_chat.standing (room, person) WHERE muted > 0 OR banned > 0;
CREATE INDEX standing_news ON twisted_chat.standing (news);

-- Pages show messages, topics, settings, members and sanctions.
DROP INDEX twisted_chat.event_shown;
CREATE INDEX event_shown ON twisted_chat.event (room, seq) WHERE kind IN (1, 5, 6, 7, 8);
