-- The ritual ledger: the authority on the state of every ritual. Messages only wake the services.
CREATE TABLE ritual (
    id                  uuid PRIMARY KEY,
    intent_id           text NOT NULL UNIQUE,
    persona             text NOT NULL,
    intent              jsonb NOT NULL,
    refines             uuid REFERENCES ritual (id), -- the banished ritual that it refines
    priority            int NOT NULL,
    state               text NOT NULL,
    version             int NOT NULL DEFAULT 0,
    attempt             int NOT NULL DEFAULT 1,
    trace_id            text NOT NULL,
    parent_span_id      text,
    cancel_requested_at timestamptz,
    cancel_why          text,
    paused_at           timestamptz, -- it takes no anvil until it is NULL again
    paused_why          text,
    pause_changed_at    timestamptz, -- when the newest pause or resume was published: an older one changes nothing
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    entered_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at            timestamptz,
    root_exported_at    timestamptz
);
CREATE INDEX ritual_open ON ritual (state, priority DESC, created_at) WHERE ended_at IS NULL;
CREATE INDEX ritual_refines ON ritual (refines) WHERE refines IS NOT NULL;
CREATE INDEX ritual_untraced ON ritual (ended_at) WHERE root_exported_at IS NULL;

-- Every fact recorded about a ritual, once. Append-only except exported_at.
CREATE TABLE ritual_fact (
    event_id     uuid PRIMARY KEY,
    ritual       uuid NOT NULL REFERENCES ritual (id),
    subject      text NOT NULL,
    step         text NOT NULL,
    owner        text NOT NULL,
    attempt      int NOT NULL,
    state_before text NOT NULL,
    state_after  text NOT NULL,
    body         jsonb NOT NULL,
    started_at   timestamptz NOT NULL,
    stated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    exported_at  timestamptz
);
CREATE INDEX ritual_fact_way ON ritual_fact (ritual, stated_at);
CREATE INDEX ritual_fact_untraced ON ritual_fact (owner, stated_at) WHERE exported_at IS NULL;

-- Errors that met a service while it worked on a ritual; `count` is that of errors since the ritual last moved.
CREATE TABLE ritual_error (
    ritual   uuid NOT NULL REFERENCES ritual (id),
    owner    text NOT NULL,
    version  int NOT NULL,
    count    int NOT NULL,
    error    text NOT NULL,
    first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    retry_at timestamptz NOT NULL,
    PRIMARY KEY (ritual, owner)
);

-- When the reconciler of each service last completed a pass. One that starts jobs also records how, and why so.
CREATE TABLE service_heartbeat (
    service   text PRIMARY KEY,
    passed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    isolation text CHECK (isolation IN ('isolated', 'unisolated', 'refused')),
    why       text
);

-- One row per anvil. ritual IS NULL means free; an expired lease is not free until its holder was proven gone.
CREATE TABLE lease (
    anvil       text PRIMARY KEY,
    ritual      uuid REFERENCES ritual (id),
    attempt     int,
    fence       bigint NOT NULL DEFAULT 0,
    acquired_at timestamptz,
    renewed_at  timestamptz,
    expires_at  timestamptz NOT NULL DEFAULT '-infinity'
);

-- A lease that was renewed in the future is from before the clock stepped back: it would last for as long as that step.
CREATE FUNCTION is_live(held lease) RETURNS boolean LANGUAGE sql VOLATILE AS
$$ SELECT held.expires_at > clock_timestamp() AND held.renewed_at < clock_timestamp() + interval '1 second' $$;

-- A digest of the grants and of the rights that they gave: where it still fits, a start touches no table.
CREATE TABLE granted (
    digest text PRIMARY KEY
);

-- The schema of SAQ's worker queues; SAQ makes its tables itself when its first worker starts.
CREATE SCHEMA IF NOT EXISTS queue;
