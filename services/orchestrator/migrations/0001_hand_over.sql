-- One row per hand-over of an anvil: the receipt of evacuation and restoration. Memory in bytes.
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
    PRIMARY KEY (anvil, fence)
);
CREATE INDEX hand_over_open ON hand_over (anvil) WHERE restored_at IS NULL;

-- How often the rune came down by itself, so that its restarts keep a growing distance.
CREATE TABLE rune_failure (
    anvil  text PRIMARY KEY,
    count  int NOT NULL DEFAULT 0,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text NOT NULL DEFAULT ''
);
