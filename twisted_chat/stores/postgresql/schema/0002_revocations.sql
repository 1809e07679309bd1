-- Servers ask for revocations by number: by time, they would never hear of one by a process whose clock is wrong.  The numbers are
-- those of the news of rooms, whose row is locked by whoever takes one, so they become visible in their order.
ALTER TABLE twisted_chat.token ADD COLUMN revocation bigint;  -- the number of its revocation

UPDATE twisted_chat.token SET revocation = numbered.number + (SELECT number FROM twisted_chat.news) FROM (
    SELECT id, row_number() OVER (ORDER BY revoked, id) AS number FROM twisted_chat.token WHERE revoked IS NOT NULL) AS numbered
WHERE numbered.id = token.id;

UPDATE twisted_chat.news SET number = number + (SELECT count(*) FROM twisted_chat.token WHERE revoked IS NOT NULL);

DROP INDEX twisted_chat.token_revoked;

CREATE INDEX token_revocation ON twisted_chat.token (revocation) WHERE revocation IS NOT NULL;
