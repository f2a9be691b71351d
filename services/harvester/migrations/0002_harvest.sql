-- What a record says of itself beyond its words.
ALTER TABLE vectors.karma
    ADD COLUMN kind     text NOT NULL DEFAULT 'interaction',
    ADD COLUMN tools    jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN purposes text[] NOT NULL DEFAULT '{train}',
    ADD COLUMN feedback text CHECK (feedback IN ('up', 'down')),
    -- The transaction that last changed the row: readers go on from the oldest one that was open when they last read.
    ADD COLUMN touched  xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ALTER COLUMN licence SET DEFAULT 'owner';
CREATE INDEX karma_touched ON vectors.karma (persona, touched);
CREATE INDEX karma_traced ON vectors.karma (persona, id) WHERE trace_id IS NOT NULL;

-- Any embedding model may fill the column; rows of different models are never compared, so each has an index of its own.
ALTER TABLE vectors.karma ALTER COLUMN embedding TYPE vector;
ALTER TABLE vectors.karma ADD COLUMN embedding_dims int GENERATED ALWAYS AS (vector_dims(embedding)) STORED;
ALTER TABLE vectors.karma ADD CHECK ((embedding IS NULL) = (embedding_model IS NULL)) NOT VALID;
CREATE INDEX karma_unembedded ON vectors.karma (created_at, id) WHERE embedding IS NULL;
CREATE INDEX karma_minilm ON vectors.karma USING hnsw ((embedding::vector(384)) vector_cosine_ops)
    WHERE embedding_model = 'all-MiniLM-L6-v2';

CREATE FUNCTION vectors.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'revoked' AND NEW.status <> 'revoked' THEN
        RAISE EXCEPTION 'karma % was revoked: a revoked record stays out for good', OLD.id;
    END IF;
    IF NEW.status = 'revoked' AND OLD.status <> 'revoked' THEN
        INSERT INTO harvester.revocation (karma, revoked_by)
            VALUES (NEW.id, coalesce(nullif(current_setting('soulforge.revoked_by', true), ''), current_user))
            ON CONFLICT DO NOTHING;
    END IF;
    -- An embedding says nothing new about the record.
    IF (to_jsonb(NEW) - '{embedding,embedding_model,embedding_dims,touched}'::text[])
        IS DISTINCT FROM (to_jsonb(OLD) - '{embedding,embedding_model,embedding_dims,touched}'::text[]) THEN
        NEW.touched := pg_current_xact_id();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER touch BEFORE UPDATE ON vectors.karma FOR EACH ROW EXECUTE FUNCTION vectors.touch();

-- Consent withdrawn, for good: also for a row that is deleted and comes back under its id.
CREATE TABLE revocation (
    karma      text PRIMARY KEY,
    revoked_by text NOT NULL,
    why        text NOT NULL DEFAULT '',
    revoked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    announced_at timestamptz
);
CREATE INDEX revocation_unannounced ON revocation (karma) WHERE announced_at IS NULL;
INSERT INTO revocation (karma, revoked_by)
    SELECT id, coalesce(consecrated_by, 'unknown') FROM vectors.karma WHERE status = 'revoked' ON CONFLICT DO NOTHING;

-- The conversation that led to a verified outcome, rebuilt from its trace; trained in place of the record's own messages.
CREATE TABLE golden_path (
    karma    text PRIMARY KEY,
    trace_id text NOT NULL,
    messages jsonb,               -- NULL: no path could be rebuilt, `problem` says why
    tools    jsonb NOT NULL DEFAULT '[]',
    steps    int NOT NULL DEFAULT 0,
    pruned   int NOT NULL DEFAULT 0,
    problem  text,
    read_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What was read in a record, once per change of the record or of the reading policy: everything that admission decides by.
-- Made again from the karma at any time, so it is not logged: after a crash of the server everything is read anew.
CREATE UNLOGGED TABLE reading (
    karma      text PRIMARY KEY,
    persona    text NOT NULL,
    touched    xid8 NOT NULL,
    policy     text NOT NULL,
    created_at timestamptz NOT NULL,
    status     text NOT NULL,
    session    text NOT NULL,
    parent     text,
    source     text NOT NULL,
    licence    text NOT NULL,
    kind       text NOT NULL,
    feedback   text,
    consented  boolean NOT NULL,
    content    bytea NOT NULL,      -- digest of everything of the record that may be written
    text       bytea NOT NULL,      -- digest of the normalised words
    place      float8 NOT NULL,     -- where the keyed hash of its session falls in [0, 1)
    cut        boolean NOT NULL,    -- a segment begins here
    characters int NOT NULL,
    tokens     int NOT NULL,
    redacted   boolean NOT NULL,
    found      jsonb,               -- class of secret or personal data -> how often; never the thing itself
    reason     text,                -- why its content keeps it out
    grams      bigint[] NOT NULL DEFAULT '{}',
    bands      bigint[] NOT NULL DEFAULT '{}',
    compared   boolean NOT NULL DEFAULT false  -- near duplicates of it were looked for
);
CREATE INDEX reading_parent ON reading (persona) WHERE parent IS NOT NULL;

CREATE UNLOGGED TABLE reading_mark (
    persona text PRIMARY KEY,
    policy  text NOT NULL,
    touched xid8 NOT NULL
);

-- A record that nearly repeats another one of its persona, and which.
CREATE UNLOGGED TABLE near_duplicate (
    karma   text NOT NULL,
    other   text NOT NULL,
    persona text NOT NULL,
    likeness real NOT NULL,
    measure text NOT NULL CHECK (measure IN ('minhash', 'cosine')),
    PRIMARY KEY (karma, other)
);
CREATE INDEX near_duplicate_of_persona ON near_duplicate (persona);
CREATE INDEX near_duplicate_other ON near_duplicate (other);

-- What was read of a row goes with the row.
CREATE FUNCTION harvester.forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM harvester.reading WHERE karma = OLD.id;
    DELETE FROM harvester.near_duplicate WHERE karma = OLD.id OR other = OLD.id;
    RETURN NULL;
END $$;
CREATE TRIGGER forget AFTER DELETE ON vectors.karma FOR EACH ROW EXECUTE FUNCTION harvester.forget();

-- A stretch of a persona's karma in order of time, decided and written once; manifests share what did not change.
CREATE TABLE segment (
    key        text PRIMARY KEY,
    persona    text NOT NULL,
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    used       text[] NOT NULL,     -- ids that stand in a file of the segment
    excluded   jsonb NOT NULL,      -- reason -> ids: the negative ledger
    files      jsonb NOT NULL,
    statistics jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX segment_of_time ON segment (persona, first_at, last_at);

CREATE TABLE manifest_segment (
    manifest text NOT NULL,
    segment  text NOT NULL REFERENCES segment (key),
    PRIMARY KEY (manifest, segment)
);
CREATE INDEX manifest_of_segment ON manifest_segment (segment);

CREATE TABLE ritual_segment (
    ritual  uuid NOT NULL,
    segment text NOT NULL REFERENCES segment (key),
    PRIMARY KEY (ritual, segment)
);

-- The negative ledger, one row per ritual and record that was not used in it.
ALTER TABLE exclusion RENAME TO exclusion_before_segments;
CREATE VIEW exclusion AS
    SELECT r.ritual, karma.id AS karma, reasons.key AS reason
    FROM ritual_segment r
    JOIN segment s ON s.key = r.segment
    CROSS JOIN LATERAL jsonb_each(s.excluded) AS reasons
    CROSS JOIN LATERAL jsonb_array_elements_text(reasons.value) AS karma (id)
    UNION ALL
    SELECT ritual, karma, reason FROM exclusion_before_segments;

-- When a persona's karma last made a ritual start by itself, and whether it may again.
CREATE TABLE tipping (
    persona   text PRIMARY KEY,
    armed     boolean NOT NULL DEFAULT true,
    tipped_at timestamptz,
    intent_id text
);
