-- The gate before SAQ's jobs, made beside SAQ's own tables: search_path is their schema.
-- A held queue's jobs cannot go from queued to active. Nothing of a job is changed, so order, time and attempts stay.
-- To remove it: DROP FUNCTION soulforge_gate CASCADE; DROP TABLE soulforge_hold;
CREATE TABLE IF NOT EXISTS soulforge_hold (
    queue  text NOT NULL,
    holder text NOT NULL,
    reason text NOT NULL,
    since  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (queue, holder)
);

-- SECURITY DEFINER: the workers' role needs no right on soulforge_hold.
CREATE OR REPLACE FUNCTION soulforge_gate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- Until the dequeue commits, `hold` waits for it; then its jobs are seen as active. The lock comes before the read:
    -- at READ COMMITTED, the server's default, the read is newer than the lock.
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(TG_TABLE_SCHEMA || '.' || NEW.queue, 0));
    IF EXISTS (SELECT FROM soulforge_hold WHERE queue = NEW.queue) THEN
        RETURN NULL; -- the dequeue finds nothing; the job waits on as it was
    END IF;
    RETURN NEW;
END
$$;

-- Only a dequeue changes nothing but the status. What a worker writes of a job that it already runs passes, even when
-- a sweep has put the job back meanwhile: it must be seen as active.
CREATE OR REPLACE TRIGGER soulforge_gate BEFORE UPDATE OF status ON saq_jobs FOR EACH ROW
WHEN (OLD.status = 'queued' AND NEW.status = 'active' AND NEW.job = OLD.job)
EXECUTE FUNCTION soulforge_gate();
