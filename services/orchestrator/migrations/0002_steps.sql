-- What a hand-over did, step by step: written as each step begins and ends, so that a crash between any two is seen.
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

-- What every model answered to the fixed prompt, by rune and model; null where it could not be asked.
ALTER TABLE hand_over
    ADD COLUMN probes_before   jsonb,
    ADD COLUMN probes_after    jsonb,
    ADD COLUMN memory_restored bigint,
    ADD COLUMN expected_s      double precision;

-- Failures are counted for every rune by itself.
DROP TABLE rune_failure;
CREATE TABLE rune_failure (
    anvil  text NOT NULL,
    rune   text NOT NULL,
    count  int NOT NULL DEFAULT 0,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text NOT NULL DEFAULT '',
    PRIMARY KEY (anvil, rune)
);

-- An anvil that could not be brought to serve again and again: no ritual takes it while its row is here.
CREATE TABLE containment (
    anvil    text PRIMARY KEY,
    reason   text NOT NULL,
    failures int NOT NULL,
    until_accepted boolean NOT NULL, -- it serves, but otherwise than before: somebody must say that this is well
    since    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What was last decided about each ritual that waits for an anvil.
CREATE TABLE decision (
    ritual     uuid PRIMARY KEY,
    verdict    text NOT NULL CHECK (verdict IN ('now', 'wait', 'refused')),
    reason     text NOT NULL,
    until      timestamptz,
    measures   jsonb NOT NULL DEFAULT '{}',
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Somebody asked for the anvil back: no ritual takes it before `until`.
CREATE TABLE reclaim (
    anvil        text PRIMARY KEY,
    why          text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    until        timestamptz NOT NULL
);
