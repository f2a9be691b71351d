"""What is banished asks for a gentler ritual, on the real database and bus: once, twice at most, and only where policy says so."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client

from services.harvester.app import app as harvester
from services.verifier.reconcile import ROLE, Verifier
from services.verifier.results import RESULTS_FILE
from services.verifier.settings import VerifierSettings
from shared.config.model import embedded
from shared.config.settings import Settings
from shared.config.tables import JobsConfig
from shared.contracts.forge import AdapterForged
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.job import JobResult
from shared.contracts.ritual import State
from shared.contracts.roles import Role
from shared.contracts.verify import AdapterBanished, Arm
from shared.jobs.gpu_stage import GpuStage
from shared.jobs.runner import JobKind, JobPlan
from shared.messaging.client import connect
from shared.messaging.outbox import relay_all
from shared.ritual import lease, ledger
from shared.ritual.lease import Lease
from shared.ritual.ledger import Ritual
from shared.runtime.context import ServiceContext
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool, open_pool
from tests.support.bundles import write_holdout
from tests.support.evaluations import SUITE, promoted
from tests.support.facts import TRAINING
from tests.support.fakes.ending_job import EndingJob
from tests.support.running import eventually
from tests.support.services import handlers_only, running
from tests.support.stages import ANVIL, JOB_S, evacuated, harvested, reconcile_until_moved, state

SOUND = promoted()
HARMED = SOUND.model_copy(
    update={
        "items": tuple(
            item.model_copy(update={"correct": item.correct and (item.suite, item.arm) != (SUITE, Arm.CANDIDATE)})
            for item in SOUND.items
        )
    }
)
GONE = {"manifest": "sha256:m", "holdout": "sha256:h", "train": 1, "dev": 1, "held_out": 1, "seen": 3, "excluded": {}}


class Harmful(Verifier):
    """The verifier, with a job that finds that an adapter lost all base logic."""

    async def plan(self, ritual: Ritual, held: Lease) -> Callable[[Path], JobPlan]:
        files = {RESULTS_FILE: HARMED.model_dump_json()}
        return lambda output: JobPlan(EndingJob(output=output, result=JobResult(ok=True), files=files), ())


@pytest.fixture
async def context(settings: Settings) -> AsyncIterator[ServiceContext]:
    """The verifier, with its own rights on the database and on the bus."""
    configuration = embedded().model_copy(update={"jobs": JobsConfig(python=Path(sys.executable))})
    pool = await open_pool(settings.database_url("verifier"), "verifier")
    client = await connect(settings, Role.VERIFIER)
    yield ServiceContext("verifier", settings, pool, client, configuration)
    await client.close()
    await pool.close()


async def banish(admin: Pool, context: ServiceContext, ritual: UUID, refinements: int) -> AdapterBanished:
    """Let a harvested ritual be trained and banished under a policy of so many refinements."""
    write_holdout(Artifacts(context.settings.home).holdout("sha256:h"))
    fence = await evacuated(admin, ritual)
    made = {"adapter": SOUND.arms[Arm.CANDIDATE], "base": SOUND.base_digest, "path": "/nowhere", "recipe": "default"}
    await state(admin, AdapterForged(ritual=ritual, persona="scribe", **made, fence=fence, training=TRAINING))
    work = Harmful(context, VerifierSettings(refinements=refinements))
    kind = JobKind(ROLE, ("-m", "tests.support.fakes.ending_job"), 1024**3, JOB_S)
    ended = await reconcile_until_moved(GpuStage(context, State.FORGED, kind, 2, work), ritual)
    assert ended.state is State.BANISHED
    await lease.release(admin, ANVIL, fence)
    return await ledger.require_fact(context.pool, ritual, AdapterBanished)


async def waiting(context: ServiceContext) -> int:
    """Intents in the verifier's outbox."""
    return int(await context.pool.fetchval("SELECT count(*) FROM outbox WHERE subject = 'training.intent'"))


async def refining(pool: Pool, ritual: UUID) -> list[UUID]:
    return [row["id"] for row in await pool.fetch("SELECT id FROM ritual WHERE refines = $1", ritual)]


def refined(pool: Pool, ritual: UUID) -> Callable[[], Awaitable[bool]]:
    async def opened() -> bool:
        return bool(await refining(pool, ritual))

    return opened


async def ask(client: Client, **intent: Any) -> dict[str, Any]:
    body = json.dumps({"persona": "scribe", **intent}).encode()
    answer: dict[str, Any] = json.loads((await client.request("training.intent", body, timeout=5)).data)
    return answer


async def test_what_is_banished_suggests_a_recipe_and_asks_for_nothing_by_default(
    admin: Pool, context: ServiceContext
) -> None:
    fact = await banish(admin, context, await harvested(admin), VerifierSettings().refinements)

    assert fact.suggested and not fact.suggested.requested
    assert fact.suggested.overrides.replay == 0.3 and "base-logic lost 100.0 points" in fact.suggested.text
    assert await waiting(context) == 0


async def test_two_rituals_refine_what_is_banished_one_by_one_and_no_third(
    settings: Settings, admin: Pool, context: ServiceContext
) -> None:
    root = await harvested(admin, kinds=("chat",))
    rituals = [root]
    async with running(handlers_only(harvester), settings):
        for number in (1, 2):
            fact = await banish(admin, context, rituals[-1], refinements=2)
            assert fact.suggested and fact.suggested.requested
            await relay_all(context.pool, context.nats)
            await eventually(refined(admin, rituals[-1]), 10, "the refining ritual opens")
            (ritual,) = await refining(admin, rituals[-1])
            found = await ledger.get_ritual(admin, ritual)
            assert found and found.state is State.INTENDED, "it waits for its own tipping point"
            assert (found.intent.kinds, found.intent.overrides) == (("chat",), fact.suggested.overrides)
            assert fact.suggested.overrides.learning_rate_multiplier == 0.5**number
            await state(admin, KarmaHarvested(ritual=ritual, persona="scribe", **GONE))
            rituals.append(ritual)

        last = await banish(admin, context, rituals[-1], refinements=2)
        assert last.suggested and not last.suggested.requested
        assert await waiting(context) == 2

        # Each is a further look at the same sealed sessions.
        judged = [await ledger.require_fact(admin, one, AdapterBanished) for one in rituals]
        assert [len(fact.verdict.look.history) for fact in judged] == [0, 1, 2]

        # What was published comes again.
        sent = await context.pool.fetch("SELECT body FROM outbox WHERE subject = 'training.intent'")
        for row in sent:
            await context.nats.jetstream().publish(
                "training.intent", row["body"], headers={"Nats-Msg-Id": str(uuid4())}
            )
        client = await connect(settings, Role.PUBLISHER)
        for refused in rituals:
            answer = await ask(client, refines=str(refused))
            assert "2 rituals refine that one already" in answer["error"]["description"]
        await client.close()
    assert await admin.fetchval("SELECT count(*) FROM ritual") == 3


async def test_an_intent_is_published_with_the_verdict_or_not_at_all(admin: Pool, context: ServiceContext) -> None:
    ritual = await harvested(admin)
    await admin.execute(
        "ALTER TABLE verifier.outbox ADD CONSTRAINT full_up CHECK (subject <> 'training.intent') NOT VALID"
    )
    banishing = asyncio.create_task(banish(admin, context, ritual, refinements=1))

    async def failing() -> bool:
        return bool(await admin.fetchval("SELECT count(*) FROM ritual_error WHERE ritual = $1", ritual))

    await eventually(failing, 20, "the verdict is not recorded without the intent")
    assert await ledger.get_fact(admin, ritual, AdapterBanished) is None
    await admin.execute("ALTER TABLE verifier.outbox DROP CONSTRAINT full_up")

    assert (await banishing).suggested
    assert await waiting(context) == 1


@pytest.mark.parametrize("persona", ["scribe", "coder"])
async def test_only_a_banished_ritual_of_the_same_persona_is_refined(
    persona: str, settings: Settings, admin: Pool
) -> None:
    ritual = await harvested(admin, persona=persona)
    if persona != "scribe":
        await admin.execute("UPDATE ritual SET state = 'banished', ended_at = now()")
    client = await connect(settings, Role.PUBLISHER)
    async with running(handlers_only(harvester), settings):
        for refines in (ritual, uuid4()):
            answer = await ask(client, refines=str(refines))
            assert answer["error"]["description"] == f"refines: {refines} is no banished ritual of scribe"
    await client.close()
    assert await admin.fetchval("SELECT count(*) FROM ritual") == 1
