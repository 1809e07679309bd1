-- Accounts.  The id of an account is the person of its tokens; sessions are tokens that were made by signing in.
ALTER TABLE token ADD COLUMN kind TEXT NOT NULL DEFAULT 'token';  -- token, session
ALTER TABLE token ADD COLUMN label TEXT NOT NULL DEFAULT '';

CREATE INDEX token_person ON token (person, kind);

CREATE TABLE account (
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    created  INTEGER NOT NULL,
    rights   TEXT NOT NULL,           -- a JSON array
    disabled INTEGER,
    deleted  INTEGER,
    origin   TEXT NOT NULL,           -- empty: the password is here
    password TEXT NOT NULL,           -- its hash with all parameters
    folded   TEXT NOT NULL,           -- the name in the form in which it is searched
    change   INTEGER NOT NULL UNIQUE  -- the number of the last change
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX account_origin ON account (origin) WHERE origin <> '';

CREATE TABLE account_look (  -- the look-alike forms of all names, so that no two accounts share one
    look    TEXT PRIMARY KEY,
    account TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX account_look_account ON account_look (account);

CREATE TABLE invitation (
    id          TEXT PRIMARY KEY,
    secret_hash BLOB NOT NULL UNIQUE,  -- SHA-256
    created     INTEGER NOT NULL,
    uses        INTEGER NOT NULL,
    used        INTEGER NOT NULL,
    expires     INTEGER,
    revoked     INTEGER,
    rights      TEXT NOT NULL,         -- a JSON array
    rooms       TEXT NOT NULL,         -- a JSON array
    person      TEXT NOT NULL,         -- who made it
    first       INTEGER NOT NULL       -- 1: valid as long as nobody has the right admin
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (  -- what was done to accounts, and by whom; it only grows
    number  INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    person  TEXT NOT NULL,
    address TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL  -- a JSON object
) STRICT;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT raise(ABORT, 'the audit log only grows');
END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN
    SELECT raise(ABORT, 'the audit log only grows');
END;

CREATE TABLE attempt (  -- attempts to sign in, by account and address: buckets that leak
    key   TEXT PRIMARY KEY,
    until INTEGER NOT NULL  -- when the bucket is empty again, in milliseconds since 1970
) STRICT, WITHOUT ROWID;

CREATE INDEX attempt_until ON attempt (until);
