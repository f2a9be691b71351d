-- What answers now, by persona: a row while some open engine answers for it, none while it is away. Every change is published
-- as `capability.announced` or `capability.withdrawn`. Read it as `capability`.
CREATE TABLE announced (
    persona       text PRIMARY KEY,
    model         text NOT NULL, -- what to ask for at the address; the same when another version serves
    version       text NOT NULL,
    adapter       text NOT NULL, -- its digest
    ritual        uuid NOT NULL, -- that made it
    base          text NOT NULL,
    context_limit int NOT NULL,  -- longest request in tokens
    address       text NOT NULL,
    announced_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Without the rows of a gateway that was killed, which are deleted at its next start.
CREATE VIEW capability AS
SELECT * FROM announced WHERE EXISTS (
    SELECT FROM public.service_heartbeat WHERE service = 'gateway' AND passed_at > clock_timestamp() - interval '1 minute'
);

-- The keys of clients. Of a secret only its hash is here. A row is never deleted, nor changed but for the last two columns.
CREATE TABLE api_key (
    id         text PRIMARY KEY,
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 100), -- whose it is
    hash       text NOT NULL UNIQUE CHECK (hash ~ '^[0-9a-f]{64}$'), -- SHA-256
    scopes     text[] NOT NULL
        CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['chat', 'train', 'consecrate', 'approve', 'admin']),
    personas   text[] CHECK (cardinality(personas) > 0),             -- that it may use; NULL: all
    per_minute int CHECK (per_minute > 0),                           -- requests; NULL: no limit
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE TRIGGER notify AFTER INSERT OR UPDATE OF revoked_at ON api_key EXECUTE FUNCTION registry.notify_gateway();

-- Files of examples that clients uploaded. Their content lies in `<home>/gateway/files/<id>` until one is deleted; its row stays.
CREATE TABLE file (
    id             text PRIMARY KEY,
    key            text NOT NULL, -- whose it is
    filename       text NOT NULL, -- as its client names it
    purpose        text NOT NULL CHECK (purpose = 'fine-tune'),
    bytes          bigint NOT NULL,
    sha256         text NOT NULL,
    status         text NOT NULL DEFAULT 'uploaded' CHECK (status IN ('uploaded', 'processed', 'error')), -- uploaded: not checked yet
    status_details text,          -- of an error: the lines that cannot be used, and why
    examples       int,           -- lines that can be used, once it is checked
    records        int,           -- of karma that they make: a preference makes two
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at     timestamptz,
    CHECK ((status = 'uploaded') = (examples IS NULL) AND (examples IS NULL) = (records IS NULL))
);
CREATE INDEX file_of_key ON file (key, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX file_unchecked ON file (bytes) WHERE status = 'uploaded' AND deleted_at IS NULL;
