"""Fine-tuning jobs by the stock client: each is one ritual, with what is said of it as events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.gateway.jobs import bus, reconcile, store
from services.gateway.jobs.bus import BusAwayError
from shared.config.settings import Settings
from shared.contracts.forge import AdapterForged, CheckpointFigures
from shared.contracts.intent import RecipeOverrides, RitualCancel, RitualCancelled, RitualPause, RitualResume
from shared.contracts.message import Fact
from shared.contracts.scopes import Scope
from shared.messaging.streams import STREAMS
from shared.storage.postgres import Pool
from tests.support.fine_tuning import (
    Tuning,
    becomes,
    examples,
    messages_of,
    ours,
    preferences,
    tuning_over,
    waits_for,
)
from tests.support.gateways import BASE
from tests.support.running import eventually
from tests.unit.cli.rows import BANISHED, HARVESTED, NAMED, WHOLE, evacuated, interrupted

Heard = dict[str, dict[str, Any]]

TRAIN = (Scope.TRAIN, Scope.CHAT)
VOUCH = (*TRAIN, Scope.CONSECRATE)
UNTIL = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)


@pytest.fixture
async def tuning(settings: Settings, admin: Pool, tmp_path: Path) -> AsyncIterator[Tuning]:
    async with tuning_over(settings, admin, tmp_path) as one:
        yield one


async def test_a_job_is_one_ritual_and_has_succeeded_once_its_version_serves(tuning: Tuning, admin: Pool) -> None:
    client = await tuning.client(*VOUCH)
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}
    dev = await client.files.create(file=("dev.jsonl", examples(3, "dev")), purpose="fine-tune")
    job = await tuning.create(client, method=method, seed=7, validation_file=dev.id, metadata={"run": "7"})
    assert (job.status, job.seed, job.metadata, job.fine_tuned_model) == ("validating_files", 7, {"run": "7"}, None)
    assert job.hyperparameters.n_epochs == 3 and job.hyperparameters.batch_size == "auto"

    ritual = await tuning.ritual(job)
    intent = ritual.intent
    assert (intent.sources, intent.dev_sources) == ((f"openai:{job.training_file}",), (f"openai:{dev.id}",))
    assert (intent.seed, intent.overrides, intent.requested_by) == (7, RecipeOverrides(epochs=3), "ada")
    rows = await admin.fetch("SELECT status, consecrated_by, count(*) AS n FROM vectors.karma GROUP BY 1, 2")
    assert [tuple(row) for row in rows] == [("white_truth", "ada", 15)]

    facts = [with_checkpoints(one.fact) for one in WHOLE]
    await tuning.state(ritual.id, facts[:1])
    await admin.execute(
        "INSERT INTO orchestrator.decision (ritual, verdict, reason, until) VALUES ($1, 'wait', 'waits: the night', $2)",
        ritual.id,
        UNTIL,
    )
    queued = await waits_for(client, job.id, "the night")
    assert queued.status == "queued" and ours(queued)["waits_until"] == int(UNTIL.timestamp())
    await tuning.state(ritual.id, facts[1:2])
    running = await becomes(client, job.id, "running")
    assert ours(running)["waits_for"] is None
    await tuning.state(ritual.id, facts[2:])
    done = await becomes(client, job.id, "succeeded")

    assert (done.fine_tuned_model, done.trained_tokens, done.error) == ("scribe@a", 360, None)
    assert done.finished_at and done.finished_at >= done.created_at
    said = await messages_of(client, job.id)
    assert said[0] == f"Created fine-tuning job: {job.id}" and said[-1] == "The job has successfully completed"
    assert len(said) == len(set(said)) and "Waits for the night, until" in " ".join(said)
    page = await client.fine_tuning.jobs.list_events(job.id, limit=2)
    assert [event.message for event in page.data] == said[:-3:-1] and page.has_more, "the newest first"
    checkpoints = [one async for one in client.fine_tuning.jobs.checkpoints.list(job.id, limit=1)]
    assert [(one.step_number, one.metrics.train_loss, one.metrics.full_valid_loss) for one in checkpoints] == [
        (40, 1.2, 1.25),
        (20, 1.5, 1.4),
    ]
    with pytest.raises(openai.NotFoundError, match="never evaluated") as refused:
        await client.chat.completions.create(model=checkpoints[0].fine_tuned_model_checkpoint, messages=[])
    assert refused.value.code == "checkpoint_not_served"
    assert [one.id for one in (await client.fine_tuning.jobs.list(metadata={"run": "7"})).data] == [job.id]
    assert (await client.fine_tuning.jobs.list(metadata={"run": "8"})).data == []


async def test_what_nobody_vouches_for_waits_for_consecration_and_says_so(tuning: Tuning, admin: Pool) -> None:
    client = await tuning.client(*TRAIN)
    job, other = await tuning.create(client), await tuning.create(client, suffix="coder")

    waiting = await waits_for(client, job.id, "the consecration of 12 of 12 records")
    assert waiting.status == "queued"
    command = f"soulforge karma consecrate --persona scribe --source openai:{job.training_file} --by WHO"
    assert command in ours(waiting)["waits_for"]
    assert any("as speculative" in one for one in await messages_of(client, job.id))
    await waits_for(client, other.id, "consecration")
    with pytest.raises(openai.ConflictError, match="has not ended"):
        await client.files.delete(job.training_file)
    await admin.execute(
        "UPDATE vectors.karma SET status = CASE persona WHEN 'scribe' THEN 'white_truth' ELSE 'rejected' END, "
        "consecrated_by = 'ida'"
    )

    assert (await tuning.ritual(job)).persona == "scribe"
    failed = await becomes(client, other.id, "failed")
    assert failed.error and failed.error.code == "not_consecrated"


async def test_a_dpo_job_trains_preferences_by_their_recipe_and_waits_for_no_worse_answer(
    tuning: Tuning, admin: Pool
) -> None:
    client = await tuning.client(*VOUCH)
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3}}}
    job = await tuning.create(client, preferences(), method=method)
    assert job.method and job.method.type == "dpo" and job.method.dpo and job.method.dpo.hyperparameters
    assert job.method.dpo.hyperparameters.beta == 0.3

    intent = (await tuning.ritual(job)).intent
    assert (intent.recipe, intent.overrides) == ("dpo", RecipeOverrides(beta=0.3))
    rows = await admin.fetch("SELECT status, count(*) AS n FROM vectors.karma GROUP BY 1 ORDER BY 1 DESC")
    assert [tuple(row) for row in rows] == [("white_truth", 12), ("speculative", 12)]
    for content, asked in ((preferences(), {}), (examples(), {"method": method})):
        failed = await becomes(client, (await tuning.create(client, content, **asked)).id, "failed")
        assert failed.error and 'method "dpo" trains' in failed.error.message


async def test_a_job_whose_version_is_banished_has_failed_with_the_reasons(tuning: Tuning) -> None:
    client = await tuning.client(*VOUCH)
    job = await tuning.create(client)
    ritual = await tuning.ritual(job)

    await tuning.state(ritual.id, [*(one.fact for one in WHOLE[:3]), BANISHED])

    failed = await becomes(client, job.id, "failed")
    assert failed.error and failed.error.code == "not_better" and "Too little.; Broken." in failed.error.message
    assert failed.fine_tuned_model is None
    [last] = (await client.fine_tuning.jobs.list_events(job.id, limit=1)).data
    assert last.level == "error" and "Too little.; Broken." in last.message


async def test_a_second_job_waits_and_is_cancelled(tuning: Tuning, client: Client) -> None:
    asked = await heard(client, RitualCancel)
    one = await tuning.client(*VOUCH)
    first, second = await tuning.create(one), await tuning.create(one)
    ritual = await tuning.ritual(second)
    await tuning.ritual(first)
    await tuning.state(ritual.id, [HARVESTED])
    await waits_for(one, second.id, "the GPU")

    await one.fine_tuning.jobs.cancel(second.id)
    assert (await arrives(asked))["ritual"] == str(ritual.id)
    await tuning.admin.execute("UPDATE public.ritual SET cancel_requested_at = now() WHERE id = $1", ritual.id)
    await one.fine_tuning.jobs.cancel(second.id)
    await tuning.state(ritual.id, [RitualCancelled(**NAMED, why="asked")])

    assert (await becomes(one, second.id, "cancelled")).error is None
    assert (await one.fine_tuning.jobs.retrieve(first.id)).status == "queued"
    assert len(asked) == 1
    assert (await one.fine_tuning.jobs.cancel(second.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="nothing to pause"):
        await one.fine_tuning.jobs.pause(second.id)


async def test_a_pause_and_a_resume_are_the_ritual_s_and_its_job_reads_queued(tuning: Tuning, client: Client) -> None:
    paused, resumed = await heard(client, RitualPause), await heard(client, RitualResume)
    one = await tuning.client(*VOUCH)
    job = await tuning.create(one)
    ritual = await tuning.ritual(job)
    await tuning.state(ritual.id, [HARVESTED, evacuated()])
    await becomes(one, job.id, "running")

    await one.fine_tuning.jobs.pause(job.id)
    command = await arrives(paused)
    assert (command["ritual"], command["by"]) == (str(ritual.id), "ada")
    await tuning.admin.execute("UPDATE public.ritual SET paused_at = now(), paused_why = 'tea'")
    await tuning.state(ritual.id, [interrupted("paused", asked=True)])
    queued = await waits_for(one, job.id, "a resume")
    assert queued.status == "queued"
    await one.fine_tuning.jobs.resume(job.id)
    await arrives(resumed)
    await tuning.admin.execute("UPDATE public.ritual SET paused_at = NULL")

    await waits_for(one, job.id, "the GPU")
    assert (len(paused), len(resumed)) == (1, 1)
    said = " ".join(await messages_of(one, job.id))
    assert "A pause was requested" in said and "tea" in said and "Interrupted: paused" in said


async def test_a_resume_right_after_a_pause_follows_it_and_one_without_a_pause_is_nothing(
    tuning: Tuning, client: Client
) -> None:
    heard_of = await heard(client, RitualPause), await heard(client, RitualResume)
    one = await tuning.client(*VOUCH)
    job = await tuning.create(one)
    ritual = await tuning.ritual(job)
    await tuning.state(ritual.id, [HARVESTED, evacuated()])
    await becomes(one, job.id, "running")
    await one.fine_tuning.jobs.resume(job.id)
    assert "resumed" not in " ".join(await messages_of(one, job.id))

    await one.fine_tuning.jobs.pause(job.id)
    await arrives(heard_of[0])
    await one.fine_tuning.jobs.resume(job.id)

    await arrives(heard_of[1])

    async def is_passed_on() -> bool:
        return bool(await tuning.admin.fetchval("SELECT pending IS NULL FROM gateway.job"))

    await eventually(is_passed_on, 10, "the resume is passed on")
    assert [len(one) for one in heard_of] == [1, 1]


async def test_without_a_ritual_a_job_is_cancelled_at_once_and_a_pause_asks_for_none(
    tuning: Tuning, admin: Pool
) -> None:
    client = await tuning.client(*TRAIN)
    cancelled, paused = await tuning.create(client), await tuning.create(client)
    await waits_for(client, cancelled.id, "consecration")
    assert (await client.fine_tuning.jobs.cancel(cancelled.id)).status == "cancelled"
    await waits_for(client, paused.id, "consecration")
    await client.fine_tuning.jobs.pause(paused.id)
    await admin.execute("UPDATE vectors.karma SET status = 'white_truth', consecrated_by = 'ida'")
    assert (await waits_for(client, paused.id, "a resume")).status == "queued"
    assert await admin.fetchval("SELECT count(*) FROM public.ritual") == 0

    await client.fine_tuning.jobs.resume(paused.id)

    await tuning.ritual(paused)
    assert await admin.fetchval("SELECT count(*) FROM public.ritual") == 1


async def test_the_same_idempotency_key_makes_one_job(tuning: Tuning) -> None:
    client = await tuning.client(*VOUCH)
    file = await client.files.create(file=("a.jsonl", examples()), purpose="fine-tune")
    asked: dict[str, Any] = {"model": BASE, "training_file": file.id, "suffix": "scribe"}
    once = {"Idempotency-Key": "one"}

    made = await asyncio.gather(*(client.fine_tuning.jobs.create(**asked, extra_headers=once) for _ in range(5)))

    assert len({job.id for job in made}) == 1
    with pytest.raises(openai.BadRequestError) as refused:
        await client.fine_tuning.jobs.create(**asked, seed=2, extra_headers=once)
    assert refused.value.code == "idempotency_key_reused"
    other = await tuning.client(*VOUCH, name="bo")
    with pytest.raises(openai.BadRequestError) as hidden:
        await other.fine_tuning.jobs.create(**asked, extra_headers=once)
    assert (hidden.value.code, hidden.value.param) == ("file_not_found", "training_file")


async def test_a_client_sees_its_own_jobs_and_an_admin_sees_all(tuning: Tuning) -> None:
    ada, bo = await tuning.client(*VOUCH), await tuning.client(*TRAIN, name="bo")
    admin, narrow = await tuning.client(Scope.ADMIN), await tuning.client(*TRAIN, personas=frozenset({"coder"}))
    jobs = [await tuning.create(ada), await tuning.create(ada)]

    for call in (bo.fine_tuning.jobs.retrieve, bo.fine_tuning.jobs.cancel, bo.fine_tuning.jobs.list_events):
        with pytest.raises(openai.NotFoundError):
            await call(jobs[0].id)
    assert (await bo.fine_tuning.jobs.list()).data == []
    newest = [job.id async for job in admin.fine_tuning.jobs.list(limit=1)]
    assert newest == [job.id for job in reversed(jobs)]
    with pytest.raises(openai.PermissionDeniedError, match="may not use 'scribe'"):
        await tuning.create(narrow)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": "gpt-4o-mini"}, "model", "model_not_found"),
    ({"suffix": None}, "suffix", "missing_required_parameter"),
    ({"suffix": "My Model"}, "suffix", "invalid_value"),
    ({"training_file": "file-" + "0" * 24}, "training_file", "file_not_found"),
    ({"hyperparameters": {"n_epochs": 1000}}, "hyperparameters.n_epochs", "invalid_value"),
    ({"method": {"type": "reinforcement"}}, "method.type", "unsupported_method"),
    (
        {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 9.0}}}},
        "method.dpo.hyperparameters.beta",
        "invalid_value",
    ),
    ({}, "training_file", "invalid_training_file"),
]


async def test_what_cannot_be_honoured_is_refused_before_anything_is_stored(tuning: Tuning, admin: Pool) -> None:
    client = await tuning.client(*VOUCH)
    few = await client.files.create(file=("few.jsonl", examples(9)), purpose="fine-tune")
    await client.files.wait_for_processing(few.id, poll_interval=0.1)

    for fields, param, code in REFUSED:
        asked: dict[str, Any] = {"model": BASE, "training_file": few.id, "suffix": "scribe", **fields}
        with pytest.raises(openai.BadRequestError) as refused:
            await client.fine_tuning.jobs.create(**asked)
        assert (refused.value.param, refused.value.code, refused.value.type) == (param, code, "invalid_request_error")
    assert "9 examples" in refused.value.message
    assert await admin.fetchval("SELECT count(*) FROM gateway.job") == 0


async def test_an_error_is_one_job_s_shown_and_ends_it_after_some(
    tuning: Tuning, admin: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(reconcile, "MOST_ERRORS", 3)
    client = await tuning.client(*VOUCH)
    broken = await tuning.create(client)
    ritual = await tuning.ritual(broken)
    await tuning.state(ritual.id, [HARVESTED])
    await admin.execute("UPDATE public.ritual_fact SET body = '{}' WHERE ritual = $1", ritual.id)
    other = await tuning.create(client)
    await tuning.ritual(other)

    failed = await becomes(client, broken.id, "failed")
    assert failed.error and failed.error.code == "internal_error" and "manifest" in failed.error.message
    shown = [one for one in await messages_of(client, broken.id) if one.startswith("Error ")]
    assert len(shown) == reconcile.MOST_ERRORS
    assert (await client.fine_tuning.jobs.retrieve(other.id)).status == "queued"


async def test_records_that_the_bus_has_lost_are_handed_over_again(
    tuning: Tuning, admin: Pool, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await tuning.client(*TRAIN)
    job = await tuning.create(one)
    await waits_for(one, job.id, "consecration")
    monkeypatch.setattr(reconcile, "PUBLISH_AGAIN_S", 0.5)
    for stream in STREAMS:
        await client.jetstream().purge_stream(stream.name or "")
    await admin.execute("DELETE FROM vectors.karma")

    await waits_for(one, job.id, "the harvester, which has stored 0 of 12")
    await waits_for(one, job.id, "consecration")


async def count_none(*_: object) -> dict[str, int]:
    return {}


async def test_records_that_are_never_stored_end_the_job_but_not_while_the_harvester_is_away(
    tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "count_karma", count_none)
    monkeypatch.setattr(reconcile, "PUBLISH_AGAIN_S", 0.3)
    monkeypatch.setattr(reconcile, "HARVESTER_SILENT_S", 0.0)
    client = await tuning.client(*VOUCH)
    job = await tuning.create(client)
    await waits_for(client, job.id, "the harvester, which has stored 0 of 12")
    await asyncio.sleep(1)
    assert not [one for one in await messages_of(client, job.id) if "again" in one]

    monkeypatch.setattr(reconcile, "HARVESTER_SILENT_S", 60.0)

    failed = await becomes(client, job.id, "failed")
    assert failed.error and failed.error.code == "not_stored" and "3 times" in failed.error.message
    assert len([one for one in await messages_of(client, job.id) if "handed over again" in one]) == 2


async def test_no_more_records_are_handed_over_than_the_harvester_keeps_up_with(
    tuning: Tuning, admin: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "count_karma", count_none)
    monkeypatch.setattr(reconcile, "MOST_AHEAD", 300)
    client = await tuning.client(*VOUCH)
    job = await tuning.create(client, examples(1000))

    await waits_for(client, job.id, "the harvester, which has stored 0 of 1000")
    assert await admin.fetchval("SELECT published FROM gateway.job") == 512
    monkeypatch.undo()
    await tuning.ritual(job)


async def test_a_job_shows_that_it_waits_for_the_bus(tuning: Tuning, monkeypatch: pytest.MonkeyPatch) -> None:
    async def does_not_answer(*_: object) -> None:
        raise BusAwayError("NATS", "no answer")

    monkeypatch.setattr(bus, "publish", does_not_answer)
    monkeypatch.setattr(reconcile, "ASK_AGAIN_S", 0.1)
    client = await tuning.client(*VOUCH)
    jobs = [await tuning.create(client), await tuning.create(client)]
    for job in jobs:
        await waits_for(client, job.id, "NATS, which does not answer")
    monkeypatch.undo()
    for job in jobs:
        await tuning.ritual(job)


async def test_a_job_of_a_revoked_key_ends(tuning: Tuning, admin: Pool) -> None:
    client = await tuning.client(*TRAIN)
    job = await tuning.create(client)
    await waits_for(client, job.id, "consecration")

    await admin.execute("UPDATE gateway.api_key SET revoked_at = now()")

    async def has_ended() -> bool:
        return bool(await admin.fetchval("SELECT error ->> 'code' = 'key_revoked' FROM gateway.job"))

    await eventually(has_ended, 10, "the job has ended")


def with_checkpoints(fact: Fact) -> Fact:
    if not isinstance(fact, AdapterForged):
        return fact
    found = (CheckpointFigures(step=20, loss=1.5, dev_loss=1.4), CheckpointFigures(step=40, loss=1.2, dev_loss=1.25))
    return fact.model_copy(update={"training": fact.training.model_copy(update={"checkpoints": found})})


async def heard(client: Client, kind: type[Any]) -> Heard:
    """What is published of a kind from now on; a repetition, which the stream drops, counts once."""
    found: Heard = {}

    async def keep(message: Msg) -> None:
        assert message.headers
        found[message.headers["Nats-Msg-Id"]] = json.loads(message.data)

    await client.subscribe(kind.subject, cb=keep)
    await client.flush()
    return found


async def arrives(found: Heard) -> dict[str, Any]:
    async def arrived() -> bool:
        return bool(found)

    await eventually(arrived, 10, "a message")
    return next(iter(found.values()))
