-- Accounts.  The id of an account is the person of its tokens; sessions are tokens that were made by signing in.
ALTER TABLE twisted_chat.token ADD COLUMN kind text NOT NULL DEFAULT 'token';  -- token, session
ALTER TABLE twisted_chat.token ADD COLUMN label text NOT NULL DEFAULT '';

CREATE INDEX token_person ON twisted_chat.token (person, kind);

CREATE TABLE twisted_chat.account (
    id       text COLLATE "C" PRIMARY KEY,
    name     text NOT NULL,
    created  bigint NOT NULL,
    rights   text NOT NULL,          -- a JSON array
    disabled bigint,
    deleted  bigint,
    origin   text NOT NULL,          -- empty: the password is here
    password text NOT NULL,          -- its hash with all parameters
    folded   text NOT NULL,          -- the name in the form in which it is searched
    change   bigint NOT NULL UNIQUE  -- the number of the last change
);

CREATE UNIQUE INDEX account_origin ON twisted_chat.account (origin) WHERE origin <> '';

CREATE TABLE twisted_chat.account_look (  -- the look-alike forms of all names, so that no two accounts share one
    look    text COLLATE "C" PRIMARY KEY,
    account text NOT NULL
);

CREATE INDEX account_look_account ON twisted_chat.account_look (account);

CREATE TABLE twisted_chat.invitation (
    id          text PRIMARY KEY,
    secret_hash bytea NOT NULL UNIQUE,  -- SHA-256
    created     bigint NOT NULL,
    uses        bigint NOT NULL,
    used        bigint NOT NULL,
    expires     bigint,
    revoked     bigint,
    rights      text NOT NULL,          -- a JSON array
    rooms       text NOT NULL,          -- a JSON array
    person      text NOT NULL,          -- who made it
    first       bigint NOT NULL         -- 1: valid as long as nobody has the right admin
);

CREATE TABLE twisted_chat.audit (  -- what was done to accounts, and by whom; it only grows
    number  bigint PRIMARY KEY,
    at      bigint NOT NULL,
    person  text NOT NULL,
    address text NOT NULL,
    action  text NOT NULL,
    subject text NOT NULL,
    details text NOT NULL  -- a JSON object
);

CREATE FUNCTION twisted_chat.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log only grows';
END $$;

CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE ON twisted_chat.audit FOR EACH ROW EXECUTE FUNCTION twisted_chat.refuse_change();

CREATE TABLE twisted_chat.attempt (  -- attempts to sign in, by account and address: buckets that leak
    key   text COLLATE "C" PRIMARY KEY,
    until bigint NOT NULL  -- when the bucket is empty again, in milliseconds since 1970
);

CREATE INDEX attempt_until ON twisted_chat.attempt (until);
