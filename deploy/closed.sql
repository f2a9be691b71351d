-- What PostgreSQL lets everybody do in a new database, taken back where the whole server is ours.
REVOKE ALL ON DATABASE soulforge FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- Locks by number are how migrations, harvests and pruning keep apart: another component could hold one for ever.
-- pg_advisory_unlock_all stays: a pool calls it whenever a connection comes back.
DO $$
DECLARE lock regprocedure;
BEGIN
    FOR lock IN SELECT oid FROM pg_proc WHERE proname ~ 'advisory.*lock' AND proname <> 'pg_advisory_unlock_all' LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', lock);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO soulforge_harvester, soulforge_orchestrator, soulforge_forge, '
            'soulforge_verifier, soulforge_registry, soulforge_gateway, soulforge_owner, soulforge_worker', lock);
    END LOOP;
END $$;

-- A large object is of no table, so that no limit or grant of ours holds for it: anyone could fill the disk.
DO $$
DECLARE large_object regprocedure;
BEGIN
    FOR large_object IN SELECT oid FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^lo(_|read$|write$)' LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', large_object);
    END LOOP;
END $$;
