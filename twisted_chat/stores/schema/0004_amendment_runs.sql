-- Pages show messages and topics, and step over the amendments (edits, deletions, reactions) between them, however many there are: those that
-- follow one another are one row here.  So a message writes nothing; the index that this replaces took one more page of each commit and room.
CREATE TABLE amendment_run (
    room  INTEGER NOT NULL,
    first INTEGER NOT NULL,  -- the numbers of the first and the last of them
    last  INTEGER NOT NULL,
    PRIMARY KEY (room, first)
) STRICT, WITHOUT ROWID;

INSERT INTO amendment_run
SELECT room, min(seq), max(seq) FROM (
    SELECT room, seq, seq - row_number() OVER (PARTITION BY room ORDER BY seq) AS run FROM event WHERE kind NOT IN (1, 5))
GROUP BY room, run;

DROP INDEX event_shown;
