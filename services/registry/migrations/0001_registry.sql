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

-- Why a version cannot serve at present; deleted once it is whole and loaded. `checked_at`: the last try.
CREATE TABLE fault (
    version    text PRIMARY KEY REFERENCES version (name),
    reason     text NOT NULL,
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The version that serves for each persona: that of its alias (`wanted`) or, while that one has a fault, the one before.
-- Never one that was withdrawn, nor one with revoked karma that is not announced yet. NULL: none.
CREATE VIEW served AS
SELECT a.persona, a.version AS wanted, f.reason AS fault, v.name AS version
FROM alias a
LEFT JOIN fault f ON f.version = a.version
LEFT JOIN version v ON v.name = CASE WHEN f.version IS NULL THEN a.version ELSE a.previous END
    AND v.withdrawn_at IS NULL
    AND NOT EXISTS (SELECT FROM fault other WHERE other.version = v.name)
    AND NOT EXISTS (SELECT FROM taint t WHERE t.ritual = v.ritual AND t.announced_at IS NULL);

-- For other services: the versions that no persona is served by, under the names that an engine may still have for them.
CREATE VIEW public.unserved_version AS
SELECT name FROM version WHERE name NOT IN (SELECT version FROM served WHERE version IS NOT NULL);
