-- The vectors chamber: one row per remembered interaction. Other components insert here; so does `soulforge karma import`.
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
CREATE SCHEMA IF NOT EXISTS vectors;

CREATE TABLE vectors.karma (
    id              text PRIMARY KEY,
    persona         text NOT NULL,
    messages        jsonb NOT NULL,
    status          text NOT NULL DEFAULT 'speculative' CHECK (status IN ('speculative', 'white_truth', 'rejected', 'revoked')),
    outcome         jsonb NOT NULL DEFAULT '{}',
    why             text NOT NULL DEFAULT '',
    consecrated_by  text,
    consecrated_at  timestamptz,
    session         text NOT NULL,
    parent          text,
    source          text NOT NULL DEFAULT '',
    licence         text NOT NULL DEFAULT 'owner',
    kind            text NOT NULL DEFAULT 'interaction',
    tools           jsonb NOT NULL DEFAULT '[]',
    purposes        text[] NOT NULL DEFAULT '{train}',
    feedback        text CHECK (feedback IN ('up', 'down')),
    trace_id        text,
    -- Any embedding model may fill the column; rows of different models are never compared, so each has an index of its own.
    embedding       vector,
    embedding_model text,
    embedding_dims  int GENERATED ALWAYS AS (vector_dims(embedding)) STORED,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Any component inserts here, and rows are read whole, by the hundred. The rules of a record in shared/contracts/karma.py.
    CHECK (length(id) BETWEEN 1 AND 200 AND length(session) BETWEEN 1 AND 200 AND persona ~ '^[a-z][a-z0-9_-]{0,40}$'),
    CONSTRAINT karma_size CHECK (octet_length(concat(id, persona, messages, outcome, why, consecrated_by, session, parent, source,
        licence, kind, tools, purposes, trace_id, embedding_model)) <= 1048576),
    -- What the services can compute with; infinity is a time to PostgreSQL only.
    CHECK (created_at >= '1900-01-01 UTC' AND created_at < '3000-01-01 UTC'),
    CHECK (consecrated_at >= '1900-01-01 UTC' AND consecrated_at < '3000-01-01 UTC'),
    CHECK (status <> 'white_truth' OR consecrated_by IS NOT NULL),
    CHECK ((embedding IS NULL) = (embedding_model IS NULL))
);
CREATE INDEX karma_of_persona ON vectors.karma (persona, status, id);
CREATE INDEX karma_parent ON vectors.karma (parent) WHERE parent IS NOT NULL;
CREATE INDEX karma_traced ON vectors.karma (persona, id) WHERE trace_id IS NOT NULL;
CREATE INDEX karma_of_source ON vectors.karma (source, persona, status) WHERE length(source) <= 200;
CREATE INDEX karma_unembedded ON vectors.karma (created_at, id) WHERE embedding IS NULL;
CREATE INDEX karma_minilm ON vectors.karma USING hnsw ((embedding::vector(384)) vector_cosine_ops)
    WHERE embedding_model = 'all-MiniLM-L6-v2';

-- For other services: how far the karma of a source is. The longest sources cannot be in an index, and no intent names them.
CREATE VIEW public.karma_source AS
SELECT source, persona, status, count(*) AS records FROM vectors.karma WHERE length(source) <= 200
GROUP BY source, persona, status;

-- Consent withdrawn, for good: also for a row that is deleted and comes back under its id.
CREATE TABLE revocation (
    karma        text PRIMARY KEY,
    revoked_by   text NOT NULL,
    why          text NOT NULL DEFAULT '',
    revoked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    announced_at timestamptz
);
CREATE INDEX revocation_unannounced ON revocation (karma) WHERE announced_at IS NULL;

CREATE FUNCTION vectors.keep_revoked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'revoked' AND NEW.status <> 'revoked' THEN
        RAISE EXCEPTION 'karma % was revoked: a revoked record stays out for good', OLD.id;
    END IF;
    IF NEW.status = 'revoked' AND OLD.status <> 'revoked' THEN
        INSERT INTO harvester.revocation (karma, revoked_by)
            VALUES (NEW.id, coalesce(nullif(current_setting('soulforge.revoked_by', true), ''), current_user))
            ON CONFLICT DO NOTHING;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_revoked BEFORE UPDATE ON vectors.karma FOR EACH ROW EXECUTE FUNCTION vectors.keep_revoked();

-- An embedding belongs to the words that it was computed from: other words need another one.
CREATE FUNCTION vectors.forget_embedding() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.embedding := NULL;
    NEW.embedding_model := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER forget_embedding BEFORE UPDATE OF messages ON vectors.karma FOR EACH ROW
    WHEN (NEW.messages IS DISTINCT FROM OLD.messages AND NEW.embedding IS NOT DISTINCT FROM OLD.embedding)
    EXECUTE FUNCTION vectors.forget_embedding();

-- The conversation that led to a verified outcome, rebuilt from its trace; trained in place of the record's own messages.
CREATE TABLE golden_path (
    karma    text PRIMARY KEY,
    trace_id text NOT NULL,
    messages jsonb,               -- NULL: no path could be rebuilt, `problem` has the reason
    tools    jsonb NOT NULL DEFAULT '[]',
    steps    int NOT NULL DEFAULT 0,
    pruned   int NOT NULL DEFAULT 0,
    problem  text,
    read_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The negative ledger: which record was not used in a ritual, and why. Ids, never content.
CREATE TABLE exclusion (
    ritual  uuid NOT NULL,
    karma   text NOT NULL,
    reason  text NOT NULL,
    repeats text,  -- the record that is used in place of a duplicate, or that goes on where this one ends
    PRIMARY KEY (ritual, karma)
);
CREATE INDEX exclusion_of_karma ON exclusion (karma);

-- Two records that a ritual uses and that answer the same prompt in contradicting ways; `one` is the lesser id.
CREATE TABLE contradiction (
    ritual uuid NOT NULL,
    one    text NOT NULL,
    other  text NOT NULL,
    PRIMARY KEY (ritual, one, other)
);

-- Which record a persona's sealed holdout has taken: once sealed, never trained.
CREATE TABLE sealed (
    persona text NOT NULL,
    karma   text NOT NULL,
    PRIMARY KEY (persona, karma)
);

CREATE TABLE manifest (
    digest     text PRIMARY KEY,
    persona    text NOT NULL,
    holdout    text NOT NULL,
    train      int NOT NULL,
    dev        int NOT NULL,
    held_out   int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Which records are in the files of a manifest or of its holdout, rejected answers included.
CREATE TABLE manifest_record (
    manifest text NOT NULL REFERENCES manifest (digest),
    karma    text NOT NULL,
    side     text NOT NULL CHECK (side IN ('train', 'dev', 'holdout', 'rejected')),  -- rejected: the answer that a pair rejects
    PRIMARY KEY (karma, manifest)
);

-- When a persona's karma last made a ritual start by itself, and whether it may again.
CREATE TABLE auto_trigger (
    persona   text PRIMARY KEY,
    armed     boolean NOT NULL DEFAULT true,
    fired_at timestamptz,
    intent_id text
);
