-- Versions of adapters, the aliases of each persona, and every decision about them.
-- A version with `withdrawn_at` is kept in the Crypt and not served. `overridden_at`: it was withdrawn, and promoted all the same.
CREATE TABLE version (
    name          text PRIMARY KEY,
    persona       text NOT NULL,
    adapter       text NOT NULL,
    base          text NOT NULL,
    ritual        uuid NOT NULL,
    bundle        text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    withdrawn_at  timestamptz,
    overridden_at timestamptz,
    failed_probes int NOT NULL DEFAULT 0  -- proofs of the binding that failed
);
CREATE INDEX version_persona ON version (persona, registered_at);
CREATE INDEX version_of_ritual ON version (ritual);
CREATE INDEX version_adapter ON version (adapter);

-- The aliases of a persona. Every change is a decision; its transaction locks the row first.
CREATE TABLE alias (
    persona   text PRIMARY KEY,
    champion  text REFERENCES version (name), -- answers for the persona; NULL: none yet, or the last one was withdrawn
    previous  text REFERENCES version (name), -- was the champion before, and stays loaded: a roll back goes to it
    candidate text REFERENCES version (name), -- good, loaded, and not promoted
    ritual    uuid,                           -- waits for the decision about the candidate; NULL: none does
    until     timestamptz,                    -- when that waiting ends
    approved  bigint,                         -- the decision to promote the candidate as soon as it is loaded
    held      text CHECK (held IN ('pin', 'roll_back')), -- why no version is promoted by policy; NULL: it may be
    moved_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Every decision, in the order in which they were made. Never changed, but for the mark of its announcement.
CREATE TABLE decision (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    persona      text NOT NULL,
    action       text NOT NULL,
    version      text REFERENCES version (name), -- what was decided about
    champion_before text,                        -- the champion before
    champion     text,                           -- the champion after it
    ritual       uuid,                           -- the ritual that it decides about
    by           text NOT NULL,
    why          text NOT NULL,
    override     boolean NOT NULL DEFAULT false, -- of a version that was banished or withdrawn
    source       text UNIQUE,                    -- the message that asked for it, so that it is obeyed once
    decided_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    announced_at timestamptz
);
CREATE INDEX decision_of_version ON decision (version, id);
CREATE INDEX decision_of_ritual ON decision (ritual, id);
CREATE INDEX decision_of_persona ON decision (persona, id);
CREATE INDEX decision_unannounced ON decision (id) WHERE announced_at IS NULL;

-- What each rune had loaded when it was asked last, and whether it was proven to be what answers.
CREATE TABLE loaded (
    rune     text NOT NULL,
    version  text NOT NULL REFERENCES version (name),
    probes   int NOT NULL,     -- prompts of the proof
    proven   boolean NOT NULL,
    since    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (rune, version)
);
CREATE INDEX loaded_version ON loaded (version);

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

-- The digests that may not answer under any name, and why: a version of it was withdrawn, an evaluation banished it, or revoked
-- karma of it is not announced yet. A later promotion by an override lifts all but the last.
CREATE VIEW withdrawal AS
SELECT DISTINCT ON (adapter) adapter, reason FROM (
    SELECT v.adapter, timestamptz 'infinity' AS at, 'consent to karma it was trained on is withdrawn' AS reason
    FROM version v WHERE EXISTS (SELECT FROM taint t WHERE t.ritual = v.ritual AND t.announced_at IS NULL)
    UNION ALL
    SELECT v.adapter, v.withdrawn_at, coalesce((
        SELECT nullif(d.why, '') FROM decision d WHERE d.version = v.name AND d.action = 'retire' ORDER BY d.id DESC LIMIT 1
    ), 'no reason was given')
    FROM version v WHERE v.withdrawn_at IS NOT NULL
    UNION ALL
    SELECT f.body ->> 'adapter', '-infinity', 'an evaluation banished its adapter'
    FROM public.ritual_fact f WHERE f.subject = 'adapter.banished'
) cause
WHERE NOT EXISTS (SELECT FROM version o WHERE o.adapter = cause.adapter AND o.overridden_at >= cause.at)
ORDER BY adapter, at DESC;
CREATE INDEX ritual_fact_banished ON public.ritual_fact ((body ->> 'adapter')) WHERE subject = 'adapter.banished';

-- The version that serves for each persona: its champion (`wanted`) or, while that one may not or cannot serve (`fault`), the one
-- before. NULL: none.
CREATE VIEW served AS
WITH trouble AS (
    SELECT v.name, coalesce('it was withdrawn: ' || w.reason, f.reason) AS reason
    FROM version v LEFT JOIN withdrawal w ON w.adapter = v.adapter LEFT JOIN fault f ON f.version = v.name
    WHERE w.adapter IS NOT NULL OR f.version IS NOT NULL
)
SELECT a.persona, a.champion AS wanted, t.reason AS fault,
    CASE WHEN t.name IS NULL THEN a.champion WHEN a.previous NOT IN (SELECT name FROM trouble) THEN a.previous END AS version
FROM alias a LEFT JOIN trouble t ON t.name = a.champion
WHERE a.champion IS NOT NULL;

-- For other services: the versions that no persona is served by, under the names that an engine may still have for them.
CREATE VIEW public.unserved_version AS
SELECT name FROM version WHERE name NOT IN (SELECT version FROM served WHERE version IS NOT NULL);

-- For other services: the champion of each persona, which a new version is compared with, and why it does not serve.
CREATE VIEW public.champion AS
SELECT s.persona, v.name, v.adapter, v.base, s.fault FROM served s JOIN version v ON v.name = s.wanted;

-- The gateway applies what changes here as soon as it is committed.
CREATE FUNCTION notify_gateway() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('soulforge_versions', ''); RETURN NULL; END $$;
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON version EXECUTE FUNCTION notify_gateway();
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON alias EXECUTE FUNCTION notify_gateway();
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON taint EXECUTE FUNCTION notify_gateway();
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE ON fault EXECUTE FUNCTION notify_gateway();
CREATE TRIGGER notify_gateway AFTER INSERT ON public.ritual_fact
    FOR EACH ROW WHEN (NEW.subject = 'adapter.banished') EXECUTE FUNCTION notify_gateway();
