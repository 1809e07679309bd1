-- Servers ask for revocations by number: by time, they would never hear of one by a process whose clock is wrong.
ALTER TABLE token ADD COLUMN revocation INTEGER;  -- the number of its revocation

UPDATE token SET revocation = numbered.number FROM (
    SELECT id, row_number() OVER (ORDER BY revoked, id) AS number FROM token WHERE revoked IS NOT NULL) AS numbered
WHERE numbered.id = token.id;

DROP INDEX token_revoked;

CREATE INDEX token_revocation ON token (revocation) WHERE revocation IS NOT NULL;
