-- Pages show messages and topics: without this index a page reads over everything that amends them (1,000,000 reactions).
CREATE INDEX event_shown ON event (room, seq) WHERE kind IN (1, 5);

CREATE TABLE cursor (  -- how far readers that are programs have come
    reader TEXT NOT NULL,
    room   TEXT NOT NULL,
    epoch  TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    event  TEXT,             -- the id of the event at seq; NULL at 0
    PRIMARY KEY (reader, room)
) STRICT, WITHOUT ROWID;
