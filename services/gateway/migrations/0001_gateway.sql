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

-- Fine-tuning jobs of the HTTP API. Each is one ritual, whose intent has the job's id.
CREATE TABLE job (
    id              text PRIMARY KEY,
    ritual          uuid NOT NULL UNIQUE,
    key             text NOT NULL,         -- the client's key
    requested_by    text NOT NULL,         -- the name of that key
    persona         text NOT NULL,
    model           text NOT NULL,         -- the base
    asked           jsonb NOT NULL,        -- the request
    body_digest     text NOT NULL,         -- of the request: an idempotency key belongs to one body
    idempotency_key text,
    seed            int NOT NULL,
    training_file   text NOT NULL,
    validation_file text,
    vouched_by      text,                  -- who makes white truths of the records; null: they stay speculative
    status          text NOT NULL DEFAULT 'validating_files'
        CHECK (status IN ('validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
    records         int,                   -- in both files; null: they are not checked yet
    published       int NOT NULL DEFAULT 0,
    stored          int NOT NULL DEFAULT 0, -- by the harvester, as counted last
    stored_at       timestamptz NOT NULL DEFAULT clock_timestamp(), -- when that last grew, or the first was published
    intent_sent_at  timestamptz,           -- when the intent was first sent, or was about to be: there may be a ritual
    waits_for       text,
    waits_until     timestamptz,
    pending         text CHECK (pending IN ('pause', 'resume')), -- asked for by the client, and not in the ritual's row yet
    pending_at      timestamptz,
    cancel_requested_at timestamptz,
    fine_tuned_model text,
    error           jsonb,
    trained_tokens  bigint,
    last_seq        int NOT NULL DEFAULT 0, -- of its events
    errors          int NOT NULL DEFAULT 0, -- in a row
    retry_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at        timestamptz,
    CHECK ((ended_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled'))),
    UNIQUE (key, idempotency_key)
);
CREATE INDEX job_open ON job (retry_at) WHERE ended_at IS NULL;
CREATE INDEX job_newest ON job (created_at DESC, id DESC);

-- What is to be known of a job, in its order. Once per `source`: a fact's id, or the name of a step. None is added to a job that
-- has ended.
CREATE TABLE job_event (
    job     text NOT NULL REFERENCES job (id),
    seq     int NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    level   text NOT NULL CHECK (level IN ('info', 'warn', 'error')),
    type    text NOT NULL CHECK (type IN ('message', 'metrics')),
    message text NOT NULL,
    data    jsonb NOT NULL,
    source  text NOT NULL,
    PRIMARY KEY (job, seq),
    UNIQUE (job, source)
);
