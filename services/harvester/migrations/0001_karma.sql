-- The vectors chamber: one row per remembered interaction. Other components insert here; so does `soulforge karma import`.
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
CREATE SCHEMA IF NOT EXISTS vectors;

CREATE TABLE vectors.karma (
    id              text PRIMARY KEY,
    persona         text NOT NULL,
    messages        jsonb NOT NULL,
    status          text NOT NULL DEFAULT 'speculative' CHECK (status IN ('speculative', 'white_truth', 'revoked')),
    outcome         jsonb NOT NULL DEFAULT '{}',
    why             text NOT NULL DEFAULT '',
    consecrated_by  text,
    consecrated_at  timestamptz,
    session         text NOT NULL,
    parent          text,
    source          text NOT NULL DEFAULT '',
    licence         text NOT NULL DEFAULT '',
    trace_id        text,
    embedding       vector(384),
    embedding_model text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (status <> 'white_truth' OR consecrated_by IS NOT NULL)
);
CREATE INDEX karma_of_persona ON vectors.karma (persona, status, id);
CREATE INDEX karma_parent ON vectors.karma (parent) WHERE parent IS NOT NULL;

-- The negative ledger: what was not used in a ritual and why. Ids, never content.
CREATE TABLE exclusion (
    ritual uuid NOT NULL,
    karma  text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (ritual, karma)
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
