-- Who may do what in the database. Applied in one transaction at each start: what was taken away comes back, what was
-- added goes. Not in `traces` and `queue`, where `phoenix` and `worker` own their tables and what is granted on them; the role
-- that runs this owns every other one.

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON public.ritual, public.ritual_fact, public.ritual_error, public.lease, public.service_heartbeat,
    public.migration, public.granted, public.unserved_version, public.champion, public.karma_source,
    public.ritual_decision FROM PUBLIC,
    soulforge_harvester, soulforge_orchestrator, soulforge_forge, soulforge_verifier, soulforge_registry,
    soulforge_gateway, soulforge_owner, soulforge_publisher, soulforge_phoenix, soulforge_worker;
REVOKE ALL ON ALL TABLES IN SCHEMA vectors, harvester, orchestrator, forge, verifier, registry, gateway
    FROM PUBLIC, soulforge_harvester, soulforge_orchestrator, soulforge_forge, soulforge_verifier, soulforge_registry,
    soulforge_gateway, soulforge_owner, soulforge_publisher, soulforge_phoenix, soulforge_worker;
REVOKE ALL ON SCHEMA vectors, harvester, orchestrator, forge, verifier, registry, gateway
    FROM PUBLIC, soulforge_harvester, soulforge_orchestrator, soulforge_forge, soulforge_verifier, soulforge_registry,
    soulforge_gateway, soulforge_owner, soulforge_publisher, soulforge_phoenix, soulforge_worker;

-- The ledger: every service reads it; those that own a stage record facts, move the state, and never delete. Facts are
-- append-only.
GRANT USAGE ON SCHEMA public TO soulforge_harvester, soulforge_orchestrator, soulforge_forge, soulforge_verifier,
    soulforge_registry, soulforge_gateway, soulforge_owner, soulforge_publisher;
GRANT SELECT ON public.ritual, public.ritual_fact, public.ritual_error, public.lease, public.service_heartbeat,
    public.migration TO soulforge_harvester, soulforge_orchestrator, soulforge_forge, soulforge_verifier,
    soulforge_registry, soulforge_gateway, soulforge_owner;
GRANT UPDATE (state, version, attempt, entered_at, ended_at, root_exported_at) ON public.ritual
    TO soulforge_harvester, soulforge_orchestrator, soulforge_forge, soulforge_verifier, soulforge_registry;
GRANT INSERT, UPDATE (exported_at) ON public.ritual_fact
    TO soulforge_harvester, soulforge_orchestrator, soulforge_forge, soulforge_verifier, soulforge_registry;
GRANT INSERT, UPDATE, DELETE ON public.ritual_error
    TO soulforge_harvester, soulforge_orchestrator, soulforge_forge, soulforge_verifier, soulforge_registry;
GRANT INSERT, UPDATE ON public.service_heartbeat
    TO soulforge_harvester, soulforge_orchestrator, soulforge_forge, soulforge_verifier, soulforge_registry,
    soulforge_gateway;
GRANT INSERT ON public.ritual TO soulforge_harvester;
GRANT UPDATE (cancel_requested_at, cancel_why) ON public.ritual TO soulforge_orchestrator, soulforge_registry;
GRANT UPDATE (paused_at, paused_why, pause_changed_at) ON public.ritual TO soulforge_orchestrator;
GRANT INSERT, UPDATE ON public.lease TO soulforge_orchestrator;
-- The service that runs a job renews its lease.
GRANT UPDATE (renewed_at, expires_at) ON public.lease TO soulforge_forge, soulforge_verifier;
GRANT SELECT ON public.unserved_version TO soulforge_orchestrator;
GRANT SELECT ON public.champion TO soulforge_verifier;

-- A service and its own schema. What is recorded there is not deleted, but for what ends: a fault, what a
-- rune has loaded, a containment, a capability.
GRANT USAGE ON SCHEMA vectors, harvester TO soulforge_harvester;
GRANT USAGE ON SCHEMA orchestrator TO soulforge_orchestrator;
GRANT USAGE ON SCHEMA forge TO soulforge_forge;
GRANT USAGE ON SCHEMA verifier TO soulforge_verifier;
GRANT USAGE ON SCHEMA registry TO soulforge_registry;
GRANT USAGE ON SCHEMA gateway TO soulforge_gateway;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA harvester TO soulforge_harvester;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA orchestrator TO soulforge_orchestrator;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA forge TO soulforge_forge;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA verifier TO soulforge_verifier;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA registry TO soulforge_registry;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA gateway TO soulforge_gateway;
REVOKE UPDATE ON verifier.look FROM soulforge_verifier;
GRANT UPDATE (learned) ON verifier.look TO soulforge_verifier;
GRANT DELETE ON orchestrator.containment TO soulforge_orchestrator;
REVOKE UPDATE ON registry.decision FROM soulforge_registry;
GRANT UPDATE (announced_at) ON registry.decision TO soulforge_registry;
GRANT DELETE ON registry.fault, registry.loaded TO soulforge_registry;
GRANT DELETE ON gateway.announced TO soulforge_gateway;
REVOKE INSERT, UPDATE ON gateway.api_key FROM soulforge_gateway;
GRANT UPDATE (last_used_at) ON gateway.api_key TO soulforge_gateway;
GRANT SELECT, INSERT, UPDATE ON vectors.karma TO soulforge_harvester;

-- The gateway reads which version serves each persona, how far the karma of an upload is, and what a ritual waits for.
GRANT SELECT ON public.karma_source, public.ritual_decision TO soulforge_gateway;
GRANT USAGE ON SCHEMA registry TO soulforge_gateway;
GRANT SELECT ON registry.version, registry.alias, registry.decision, registry.fault, registry.withdrawal, registry.served
    TO soulforge_gateway;

-- The owner reads everything, imports, consecrates and revokes karma, decides about versions, adds and revokes keys, marks dead
-- letters, and prunes.
GRANT USAGE ON SCHEMA vectors, harvester, orchestrator, forge, verifier, registry, gateway TO soulforge_owner;
GRANT SELECT ON public.unserved_version, public.champion, public.karma_source, public.ritual_decision
    TO soulforge_owner;
GRANT SELECT ON ALL TABLES IN SCHEMA vectors, harvester, orchestrator, forge, verifier, registry, gateway
    TO soulforge_owner;
GRANT INSERT, UPDATE, DELETE ON vectors.karma TO soulforge_owner;
GRANT INSERT ON harvester.revocation TO soulforge_owner;
GRANT INSERT, UPDATE ON registry.alias TO soulforge_owner;
GRANT INSERT ON registry.decision TO soulforge_owner;
GRANT UPDATE (withdrawn_at, overridden_at) ON registry.version TO soulforge_owner;
GRANT INSERT, UPDATE (revoked_at) ON gateway.api_key TO soulforge_owner;
GRANT UPDATE (replayed_at) ON harvester.dead_letter, orchestrator.dead_letter, forge.dead_letter, verifier.dead_letter,
    registry.dead_letter, gateway.dead_letter TO soulforge_owner;
-- A lock on the rows, which keeps two pruners apart, needs the right to update a column.
GRANT DELETE, UPDATE (retry_at) ON harvester.outbox, orchestrator.outbox, forge.outbox, verifier.outbox, registry.outbox,
    gateway.outbox TO soulforge_owner;
GRANT DELETE ON public.ritual_error TO soulforge_owner;

-- Other components insert karma without the columns that vouch for it: its status is the default, `speculative`. They read
-- rituals, adapters and what can be asked, and no karma.
GRANT USAGE ON SCHEMA vectors, registry, gateway TO soulforge_publisher;
GRANT INSERT (id, persona, messages, outcome, why, session, parent, source, licence, kind, tools, purposes, feedback,
    trace_id, embedding, embedding_model, created_at) ON vectors.karma TO soulforge_publisher;
GRANT SELECT ON public.ritual, public.ritual_fact, public.lease, public.unserved_version, registry.version,
    registry.alias, registry.fault, registry.served, gateway.capability TO soulforge_publisher;
ALTER ROLE soulforge_publisher CONNECTION LIMIT 20;

-- SAQ's workers make their tables themselves; the orchestrator holds their queues as the same role.
GRANT USAGE, CREATE ON SCHEMA queue TO soulforge_worker;
