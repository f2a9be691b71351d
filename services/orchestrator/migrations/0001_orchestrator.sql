-- One row per hand-over of an anvil: the receipt of evacuation and restoration. Memory in bytes.
-- `probes_before` and `probes_after`: the answers of every model to the fixed prompt, by rune and model; null where it
-- could not be asked.
CREATE TABLE hand_over (
    anvil         text NOT NULL,
    fence         bigint NOT NULL,
    ritual        uuid NOT NULL,
    attempt       int NOT NULL,
    began_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    suspended_at  timestamptz,
    memory_before bigint,
    memory_after  bigint,
    evacuated_at  timestamptz,
    released_at   timestamptz,
    restored_at   timestamptz,
    seconds_without_inference double precision,
    probes_before   jsonb,
    probes_after    jsonb,
    memory_restored bigint,
    expected_s      double precision,
    found_running   int NOT NULL DEFAULT 0, -- checks that found a rune running while the anvil was held
    PRIMARY KEY (anvil, fence)
);
CREATE INDEX hand_over_open ON hand_over (anvil) WHERE restored_at IS NULL;

-- The steps of a hand-over: written as each step begins and ends, so that a crash between any two is visible.
-- `part` is the rune or queue that the step is about.
CREATE TABLE hand_over_step (
    anvil    text NOT NULL,
    fence    bigint NOT NULL,
    step     text NOT NULL,
    part     text NOT NULL DEFAULT '',
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    tries    int NOT NULL DEFAULT 1,
    detail   jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (anvil, fence, step, part),
    FOREIGN KEY (anvil, fence) REFERENCES hand_over
);

-- Failures of a rune, which delay its next restart.
CREATE TABLE rune_failure (
    anvil  text NOT NULL,
    rune   text NOT NULL,
    count  int NOT NULL DEFAULT 0,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text NOT NULL DEFAULT '',
    PRIMARY KEY (anvil, rune)
);

-- An anvil that repeatedly failed to serve: no ritual takes it while its row exists.
CREATE TABLE containment (
    anvil    text PRIMARY KEY,
    reason   text NOT NULL,
    failures int NOT NULL,
    until_accepted boolean NOT NULL, -- it serves, but its models answer differently: a person has to accept that
    since    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The latest decision about each ritual that waits for an anvil.
CREATE TABLE decision (
    ritual     uuid PRIMARY KEY,
    verdict    text NOT NULL CHECK (verdict IN ('now', 'wait', 'refused')),
    reason     text NOT NULL,
    until      timestamptz,
    measures   jsonb NOT NULL DEFAULT '{}',
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- For other services: what a waiting ritual waits for, and until when.
CREATE VIEW public.ritual_decision AS SELECT ritual, verdict, reason, until, decided_at FROM decision;

-- Anvils that were reclaimed: no ritual takes one before `until`. `requested_at` is the time of the message in its stream.
CREATE TABLE reclaim (
    anvil        text PRIMARY KEY,
    why          text NOT NULL,
    requested_at timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    until        timestamptz NOT NULL
);
