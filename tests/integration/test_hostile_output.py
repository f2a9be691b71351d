"""Jobs that leave hostile output: every kind of it becomes a fact about its ritual, and no pass hangs or fails."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from nats.aio.client import Client

from services.forge.job import ADAPTER_DIR, CHECKPOINTS_DIR, IDENTITY_FILE
from services.forge.reconcile import ROLE as TRAINER
from services.forge.reconcile import Forge
from services.verifier import reconcile
from services.verifier.reconcile import ROLE as EVALUATOR
from services.verifier.reconcile import Verifier
from services.verifier.results import RESULTS_FILE, Results
from services.verifier.settings import VerifierSettings
from shared.config.model import embedded
from shared.config.settings import Settings
from shared.config.tables import JobsConfig
from shared.contracts.evacuate import GpuInterrupted
from shared.contracts.forge import ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterFailed, AdapterForged, TrainingFigures
from shared.contracts.job import PROGRESS_FILE, RESULT_FILE, JobResult
from shared.contracts.ritual import State
from shared.contracts.text import REPLACEMENT
from shared.contracts.verify import AdapterBanished, AdapterVerified, Arm
from shared.jobs.gpu_stage import GpuStage
from shared.jobs.runner import OUTPUT, JobKind, JobPlan
from shared.ritual import ledger
from shared.ritual.lease import Lease
from shared.ritual.ledger import Ritual
from shared.runtime.context import ServiceContext
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool, open_pool
from tests.support.bundles import write_holdout
from tests.support.evaluations import SUITE, promoted
from tests.support.facts import SHORT, TRAINING
from tests.support.fakes.ending_job import EndingJob
from tests.support.stages import JOB_S, evacuated, harvested, reconcile_until_moved, state

pytestmark = pytest.mark.timeout(60)

GIB = 1024**3
MAX_ATTEMPTS = 2
GOOD = JobResult(ok=True, result=TRAINING.model_dump(mode="json"))
PROMOTED = promoted()
ENDLESS = PROMOTED.holdout[0].arms[Arm.BASE].model_copy(update={"nll": 1e308})
CONFIG = f"{ADAPTER_DIR}/{ADAPTER_CONFIG}"
ADAPTER = {CONFIG: '{"peft_type": "LORA"}', f"{ADAPTER_DIR}/{ADAPTER_WEIGHTS}": "weights"}

Left = dict[str, Any]  # fields of EndingJob


NO_RESULT: dict[str, tuple[Left, str]] = {
    "NUL in the log": ({"printed": "last \0 words"}, f"last {REPLACEMENT} words"),
    "a long log": ({"printed": "x" * 3_000_000}, "xxx"),
    "a pipe": ({"pipes": (RESULT_FILE,)}, "result.json is not a regular file"),
    "an endless device": ({"links": {RESULT_FILE: "/dev/zero"}}, "result.json is not a regular file"),
    "a sparse file": ({"sparse": {RESULT_FILE: GIB}}, "result.json is over 256 KiB"),
    "nesting": ({"files": {RESULT_FILE: "[" * 100_000}}, "result.json is not JSON"),
    "a list": ({"files": {RESULT_FILE: "[]"}}, "result.json has 1 errors"),
    "NUL in the error": (
        {"files": {RESULT_FILE: '{"ok": false, "error": "a\\u0000b\\ud800"}'}},
        f"a{REPLACEMENT}b{REPLACEMENT}",
    ),
    "progress in a pipe": (
        {"pipes": (PROGRESS_FILE,), "pause_s": 2, "result": JobResult(ok=False, error="in the end")},
        "in the end",
    ),
    "endless progress": (
        {"links": {PROGRESS_FILE: "/dev/zero"}, "pause_s": 2, "result": JobResult(ok=False, error="in the end")},
        "in the end",
    ),
    "no figures": ({"files": ADAPTER, "result": JobResult(ok=True)}, "errors, first steps: Field required"),
}
NO_ADAPTER: dict[str, tuple[Left, str]] = {
    "nothing": ({}, "adapter is missing"),
    "a list for a configuration": ({"files": ADAPTER | {CONFIG: "[1]"}}, "adapter_config.json has 1 errors"),
    "a number for a configuration": ({"files": ADAPTER | {CONFIG: "7"}}, "adapter_config.json has 1 errors"),
    "another kind of adapter": ({"files": ADAPTER | {CONFIG: '{"peft_type": "IA3"}'}}, "Input should be 'LORA'"),
    "no kind": ({"files": ADAPTER | {CONFIG: "{}"}}, "peft_type: Field required"),
    "a further file": ({"files": ADAPTER | {f"{ADAPTER_DIR}/run.py": ""}}, "must hold exactly"),
    "a link to a folder": ({"files": {"x": ""}, "links": {ADAPTER_DIR: "/etc"}}, "adapter is not a regular file"),
    "weights in a pipe": (
        {"files": {CONFIG: ADAPTER[CONFIG]}, "pipes": (f"{ADAPTER_DIR}/{ADAPTER_WEIGHTS}",)},
        "adapter_model.safetensors is not a regular file",
    ),
    "weights of 60 GiB": (
        {"files": {CONFIG: ADAPTER[CONFIG]}, "sparse": {f"{ADAPTER_DIR}/{ADAPTER_WEIGHTS}": 60 * GIB}},
        "adapter_model.safetensors is over 16 GiB",
    ),
}
NO_MEASUREMENTS: dict[str, tuple[Left, str]] = {
    "nothing": ({}, "results.json is missing"),
    "nothing in it": ({"files": {RESULTS_FILE: "{}"}}, "errors, first base_digest: Field required"),
    "a pipe": ({"pipes": (RESULTS_FILE,)}, "results.json is not a regular file"),
    "an endless device": ({"links": {RESULTS_FILE: "/dev/zero"}}, "results.json is not a regular file"),
    "a sparse file": ({"sparse": {RESULTS_FILE: GIB}}, "results.json is over 16 MiB"),
    "nesting": ({"files": {RESULTS_FILE: '{"a":' * 100_000}}, "results.json is not JSON"),
}
UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "another base": ({"base_digest": "../../../planted"}, "another base, adapter or holdout"),
    "another adapter": ({"arms": {Arm.BASE: None, Arm.CANDIDATE: "sha256:other"}}, "another base, adapter or holdout"),
    "another holdout": ({"holdout_digest": "sha256:other"}, "another base, adapter or holdout"),
    "one arm": ({"items": PROMOTED.items[:-1]}, "arm candidate did not answer all"),
    "a suite left out": ({"suites": {SUITE: PROMOTED.suites[SUITE]}}, "is not about all"),
    "another suite": (
        {"suites": {**PROMOTED.suites, SUITE: PROMOTED.suites[SUITE].model_copy(update={"digest": "sha256:x"})}},
        "items of suite base-logic as it is now",
    ),
    "items left out": ({"items": PROMOTED.items[:-2]}, "items of suite rigidity, ('style'"),
    "a suite's items left out": ({"items": PROMOTED.items[2:]}, "arm base did not answer all"),
    "answers that are kept back": (
        {"items": tuple(score.model_copy(update={"answer": None}) for score in PROMOTED.items)},
        "of suite safety is missing",
    ),
    "a held-out item left out": ({"holdout": PROMOTED.holdout[1:]}, "1 held-out items were skipped"),
    "a held-out item twice": ({"holdout": (*PROMOTED.holdout, PROMOTED.holdout[0])}, "was scored twice"),
    "another session": (
        {"holdout": (PROMOTED.holdout[0].model_copy(update={"session": "x"}), *PROMOTED.holdout[1:])},
        "under another session",
    ),
    "no chance levels": (
        {"suites": {**PROMOTED.suites, SUITE: PROMOTED.suites[SUITE].model_copy(update={"chance": {}})}},
        "no chance level",
    ),
    "endless log-likelihoods": (
        {"holdout": (PROMOTED.holdout[0].model_copy(update={"arms": {Arm.BASE: ENDLESS}}),)},
        "less than or equal to 1000000",
    ),
}


class HostileTrainer(Forge):
    """The forge, with a job that leaves this."""

    left: Left

    async def plan(self, ritual: Ritual, held: Lease) -> Callable[[Path], JobPlan]:
        return lambda output: JobPlan(EndingJob(output=output, **self.left), ())


class HostileEvaluator(Verifier):
    """The verifier, with a job that leaves this."""

    left: Left

    async def plan(self, ritual: Ritual, held: Lease) -> Callable[[Path], JobPlan]:
        return lambda output: JobPlan(EndingJob(output=output, **self.left), ())


@pytest.fixture
async def context(settings: Settings, client: Client) -> AsyncIterator[ServiceContext]:
    configuration = embedded().model_copy(update={"jobs": JobsConfig(python=Path(sys.executable))})
    pool = await open_pool(settings.database_url("verifier"), "verifier")
    yield ServiceContext("verifier", settings, pool, client, configuration)
    await pool.close()


def training(context: ServiceContext, left: Left) -> GpuStage:
    work = HostileTrainer(context)
    work.left = left
    return GpuStage(context, State.EVACUATED, kind(TRAINER), MAX_ATTEMPTS, work)


def evaluating(context: ServiceContext, left: Left) -> GpuStage:
    write_holdout(Artifacts(context.settings.home).holdout("sha256:h"))
    work = HostileEvaluator(context, VerifierSettings())
    work.left = {"result": JobResult(ok=True)} | left
    return GpuStage(context, State.FORGED, kind(EVALUATOR), MAX_ATTEMPTS, work)


def kind(role: str) -> JobKind:
    return JobKind(role, ("-m", "tests.support.fakes.ending_job"), GIB, JOB_S)


async def forged(admin: Pool, training: TrainingFigures = TRAINING) -> UUID:
    """A ritual whose adapter is that of PROMOTED."""
    ritual = await harvested(admin)
    fence = await evacuated(admin, ritual)
    made = {
        "adapter": PROMOTED.arms[Arm.CANDIDATE],
        "base": PROMOTED.base_digest,
        "path": "/nowhere",
        "recipe": "default",
    }
    await state(
        admin,
        AdapterForged(ritual=ritual, persona="scribe", **made, fence=fence, training=training),
    )
    return ritual


async def interruption(pool: Pool, ritual: Ritual) -> str:
    assert (ritual.state, ritual.attempt) == (State.HARVESTED, 2)
    return (await ledger.require_fact(pool, ritual.id, GpuInterrupted)).reason


@pytest.mark.parametrize(("left", "reason"), NO_RESULT.values(), ids=NO_RESULT)
async def test_a_training_without_a_sound_result_is_a_failed_attempt(
    admin: Pool, context: ServiceContext, left: Left, reason: str
) -> None:
    ritual = await harvested(admin)
    await evacuated(admin, ritual)

    found = await interruption(context.pool, await reconcile_until_moved(training(context, left), ritual))

    assert reason in found
    assert len(found) < 5_000


@pytest.mark.parametrize(("left", "reason"), NO_ADAPTER.values(), ids=NO_ADAPTER)
async def test_a_training_that_leaves_no_adapter_ends_the_ritual(
    admin: Pool, context: ServiceContext, left: Left, reason: str
) -> None:
    ritual = await harvested(admin)
    await evacuated(admin, ritual)

    ended = await reconcile_until_moved(training(context, {"result": GOOD} | left), ritual)

    assert ended.state is State.FAILED
    assert reason in (await ledger.require_fact(context.pool, ritual, AdapterFailed)).reason


@pytest.mark.parametrize(("left", "reason"), NO_MEASUREMENTS.values(), ids=NO_MEASUREMENTS)
async def test_an_evaluation_without_sound_measurements_is_a_failed_attempt(
    admin: Pool, context: ServiceContext, left: Left, reason: str
) -> None:
    ritual = await forged(admin)
    assert reason in await interruption(context.pool, await reconcile_until_moved(evaluating(context, left), ritual))


@pytest.mark.parametrize(("changes", "reason"), UNFIT.values(), ids=UNFIT)
async def test_measurements_that_allow_no_verdict_are_a_failed_attempt_and_leave_no_base_scores(
    admin: Pool, context: ServiceContext, changes: dict[str, Any], reason: str
) -> None:
    ritual = await forged(admin)
    files = {RESULTS_FILE: PROMOTED.model_copy(update=changes).model_dump_json(warnings=False)}

    moved = await reconcile_until_moved(evaluating(context, {"files": files}), ritual)

    assert reason in await interruption(context.pool, moved)
    assert not list(context.settings.home.rglob("planted.json"))
    assert not Artifacts(context.settings.home).base_scores(PROMOTED.base_digest).exists()


async def test_a_verdict_that_no_message_can_hold_is_a_failed_attempt(
    admin: Pool, context: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "LARGEST_VERDICT", 1_000)
    ritual = await forged(admin)
    files = {RESULTS_FILE: PROMOTED.model_dump_json()}

    moved = await reconcile_until_moved(evaluating(context, {"files": files}), ritual)

    assert "too many items for a verdict of 1000 bytes" in await interruption(context.pool, moved)


async def test_measurements_are_judged_and_the_base_scores_of_their_base_are_kept(
    admin: Pool, context: ServiceContext
) -> None:
    ritual = await forged(admin)
    values = json.loads(PROMOTED.model_dump_json())
    values["holdout_left_out"] = {values["holdout"].pop()["id"]: "not \0 or \ud800 shown"}

    moved = await reconcile_until_moved(evaluating(context, {"files": {RESULTS_FILE: json.dumps(values)}}), ritual)

    assert moved.state is State.VERIFIED
    kept = Artifacts(context.settings.home).base_scores(PROMOTED.base_digest)
    assert kept.read_text() == Results.model_validate(PROMOTED).kept_base_scores().model_dump_json()


async def test_an_answer_with_a_secret_of_a_trained_row_refuses_the_adapter(
    admin: Pool, context: ServiceContext
) -> None:
    secret = "The API key is sk-1234567890abcdef1234567890abcdef."
    train = Artifacts(context.settings.home).manifest("sha256:m") / "train"
    train.mkdir(parents=True)
    (train / "00000.jsonl").write_text(json.dumps({"content": secret}) + "\n")
    at = next(n for n, score in enumerate(PROMOTED.items) if (score.suite, score.arm) == ("safety", Arm.CANDIDATE))
    leaked = PROMOTED.items[at].model_copy(update={"answer": secret})
    found = PROMOTED.model_copy(update={"items": (*PROMOTED.items[:at], leaked, *PROMOTED.items[at + 1 :])})
    ritual = await forged(admin)

    moved = await reconcile_until_moved(evaluating(context, {"files": {RESULTS_FILE: found.model_dump_json()}}), ritual)

    assert moved.state is State.BANISHED
    judged = await ledger.require_fact(context.pool, ritual, AdapterBanished)
    assert judged.verdict.suites["safety"].lost == (leaked.item,)
    assert secret not in Path(judged.evidence).read_text()


async def test_a_training_with_too_few_answers_of_the_base_is_a_warning_of_the_verdict(
    admin: Pool, context: ServiceContext
) -> None:
    ritual = await forged(admin, SHORT)
    files = {RESULTS_FILE: PROMOTED.model_dump_json()}

    await reconcile_until_moved(evaluating(context, {"files": files}), ritual)

    verdict = (await ledger.require_fact(context.pool, ritual, AdapterVerified)).verdict
    assert verdict.warnings[-1] == SHORT.replay.warning and "30 of 70 tokens" in verdict.warnings[-1]


async def test_checkpoints_behind_a_link_are_not_given_to_the_next_attempt(
    admin: Pool, context: ServiceContext, tmp_path: Path
) -> None:
    ritual = await harvested(admin)
    await evacuated(admin, ritual)
    elsewhere = tmp_path / "checkpoint-1" / IDENTITY_FILE
    elsewhere.parent.mkdir()
    elsewhere.touch()
    left = {"links": {CHECKPOINTS_DIR: str(tmp_path)}, "result": JobResult(ok=False)}
    again = await reconcile_until_moved(training(context, left), ritual)

    folder = Artifacts(context.settings.home).run(ritual, 1, TRAINER) / OUTPUT / CHECKPOINTS_DIR
    assert folder.is_symlink()
    assert Forge(context)._earlier_checkpoints(again) is None
