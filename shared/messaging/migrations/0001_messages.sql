-- The messages that a service has to publish, and those it could not handle. Every service has both tables.
CREATE TABLE outbox (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     uuid NOT NULL UNIQUE,
    subject      text NOT NULL,
    body         bytea NOT NULL,
    headers      jsonb NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz,
    failures     int NOT NULL DEFAULT 0,  -- attempts to publish it that failed, with the last error and the next attempt
    error        text,
    retry_at     timestamptz
);
CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL;

CREATE TABLE dead_letter (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject     text NOT NULL,
    body        bytea,           -- NULL where it could not be stored
    headers     bytea,           -- a JSON object; NULL where it could not be stored
    digest      bytea NOT NULL,  -- SHA-256 of the body
    size        bigint NOT NULL, -- bytes of the body
    error       text NOT NULL,
    delivery    text NOT NULL UNIQUE,
    died_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    replayed_at timestamptz
);
