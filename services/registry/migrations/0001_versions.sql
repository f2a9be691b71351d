-- Versions of adapters, and which of them a persona's name points to.
CREATE TABLE version (
    name          text PRIMARY KEY,
    persona       text NOT NULL,
    adapter       text NOT NULL,
    base          text NOT NULL,
    ritual        uuid NOT NULL,
    bundle        text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    awakened_at   timestamptz
);
CREATE INDEX version_persona ON version (persona, registered_at);

CREATE TABLE alias (
    persona  text PRIMARY KEY,
    version  text NOT NULL REFERENCES version (name),
    previous text REFERENCES version (name),
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE alias_history (
    persona  text NOT NULL,
    version  text NOT NULL,
    previous text,
    ritual   uuid NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
