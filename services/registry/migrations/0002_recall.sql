-- Revoked records and the rituals that trained on them: whatever such a ritual made, now or later, is tainted.
CREATE TABLE taint (
    ritual   uuid NOT NULL REFERENCES public.ritual (id) ON DELETE CASCADE,
    karma    text NOT NULL,
    heard_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    said_at  timestamptz,     -- when `adapter.tainted` was said of its version; NULL: not decided upon yet
    PRIMARY KEY (ritual, karma)
);

-- A withdrawn version is kept in the Crypt and never served again by itself.
ALTER TABLE version ADD COLUMN withdrawn_at timestamptz;
CREATE INDEX version_of_ritual ON version (ritual);

-- A version of NULL: the name was taken away and points nowhere.
ALTER TABLE alias_history
    ALTER COLUMN version DROP NOT NULL,
    ADD COLUMN why text NOT NULL DEFAULT '';
