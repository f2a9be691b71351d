-- The transaction that wrote a reading: the next harvest decides about those that were written since its last decision.
ALTER TABLE reading ADD COLUMN read_in xid8 NOT NULL DEFAULT '0';
ALTER TABLE reading ALTER COLUMN read_in SET DEFAULT pg_current_xact_id();
CREATE INDEX reading_revoked ON reading (persona, text) WHERE status = 'revoked';

-- Up to where the tables of a persona's last decision (`kept_…`) hold, and under which key. Like readings they are made
-- again at any time and not logged: a crash of the server empties this row and those tables together.
CREATE UNLOGGED TABLE kept_decision (
    persona      text PRIMARY KEY,
    key          text NOT NULL,      -- digest of everything but the karma that the decision depends on
    read_in      xid8 NOT NULL,      -- every reading that older transactions wrote was decided about
    records      bigint NOT NULL,
    sealed       bigint NOT NULL,    -- how many records of the persona were sealed, and a sum of their hashes
    sealed_sum   numeric NOT NULL,
    sealed_whole boolean NOT NULL,   -- what the decision holds out is sealed
    revoked      bigint NOT NULL     -- rows of `revocation`
);

-- A record may be deleted while it is read: what is read of it then is dropped by this, once it is written.
CREATE UNLOGGED TABLE gone (
    karma   text NOT NULL,
    persona text NOT NULL,
    gone_in xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX gone_of_persona ON gone (persona);

CREATE OR REPLACE FUNCTION harvester.forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM harvester.reading WHERE karma = OLD.id;
    DELETE FROM harvester.near_duplicate WHERE karma = OLD.id OR other = OLD.id;
    INSERT INTO harvester.gone (karma, persona) VALUES (OLD.id, OLD.persona);
    RETURN NULL;
END $$;

-- What was read of a row goes with the row also where it goes to another persona or gets another id.
CREATE TRIGGER forget_moved AFTER UPDATE OF id, persona ON vectors.karma FOR EACH ROW
    WHEN ((NEW.id, NEW.persona) IS DISTINCT FROM (OLD.id, OLD.persona)) EXECUTE FUNCTION harvester.forget();
