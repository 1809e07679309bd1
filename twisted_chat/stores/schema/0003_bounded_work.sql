-- Retention looks only at rooms that have something old: the time of the oldest event that is kept, by index.
ALTER TABLE room ADD COLUMN oldest INTEGER;  -- NULL when nothing is kept

UPDATE room SET oldest = (SELECT at FROM event WHERE event.room = room.id ORDER BY seq LIMIT 1);

CREATE INDEX room_oldest ON room (oldest, name) WHERE oldest IS NOT NULL;
