-- Versions of adapters, and the alias of each persona.
-- A version with `withdrawn_at` is kept in the Crypt and never served again by itself.
CREATE TABLE version (
    name          text PRIMARY KEY,
    persona       text NOT NULL,
    adapter       text NOT NULL,
    base          text NOT NULL,
    ritual        uuid NOT NULL,
    bundle        text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    awakened_at   timestamptz,
    withdrawn_at  timestamptz,
    failed_probes int NOT NULL DEFAULT 0  -- proofs of the binding that failed
);
CREATE INDEX version_persona ON version (persona, registered_at);
CREATE INDEX version_of_ritual ON version (ritual);

CREATE TABLE alias (
    persona  text PRIMARY KEY,
    version  text NOT NULL REFERENCES version (name),
    previous text REFERENCES version (name),
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Every move of an alias. version IS NULL: the alias was deleted.
CREATE TABLE alias_history (
    persona  text NOT NULL,
    version  text,
    previous text,
    ritual   uuid NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    why      text NOT NULL DEFAULT ''
);

-- Revoked records and the rituals that trained on them: every version made by such a ritual, also later, is tainted.
CREATE TABLE taint (
    ritual   uuid NOT NULL REFERENCES public.ritual (id) ON DELETE CASCADE,
    karma    text NOT NULL,
    recalled_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    announced_at timestamptz, -- when `adapter.tainted` was published about its version; NULL: the policy was not applied yet
    PRIMARY KEY (ritual, karma)
);
