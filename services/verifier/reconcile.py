"""The verifier's stage: plan the evaluator job, and record the verdict on its results."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from services.verifier.job import HOLDOUT, EvaluatorJob
from services.verifier.results import RESULTS_FILE, Results
from services.verifier.verdict import judge
from shared.config.errors import Fault, nearest, refusal
from shared.contracts.forge import AdapterForged
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.verify import (
    LARGEST_RESULTS,
    LARGEST_VERDICT,
    AdapterBanished,
    AdapterVerified,
    Arm,
    Policy,
    Verdict,
)
from shared.jobs.runner import Finished, JobPlan
from shared.ritual import ledger
from shared.storage.artifacts import Artifacts, write_atomically
from shared.storage.base_model import BaseError, Bases
from shared.storage.shards import lines
from shared.storage.suites import LoadedSuite, items_asked, load_suites
from shared.storage.untrusted import OutputError, read_model

if TYPE_CHECKING:
    from services.verifier.settings import VerifierSettings
    from shared.contracts.message import Fact
    from shared.jobs.gpu_stage import Planner
    from shared.ritual.lease import Lease
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext

ROLE = "evaluator"


class Verifier:
    """Plans evaluator jobs and judges their results."""

    def __init__(self, context: ServiceContext, settings: VerifierSettings) -> None:
        self._context, self._settings = context, settings
        self._artifacts = Artifacts(context.settings.home)
        self._bases = Bases(context.settings, context.configuration)

    async def plan(self, ritual: Ritual, held: Lease) -> Planner:
        harvested = await ledger.require_fact(self._context.pool, ritual.id, KarmaHarvested)
        forged = await ledger.require_fact(self._context.pool, ritual.id, AdapterForged)
        if (base := await self._bases.find(forged.base)) is None:
            raise BaseError(f"no rune serves the base that adapter {forged.adapter} was trained on ({forged.base})")
        suites = self._context.configuration.suites
        holdout = self._artifacts.holdout(harvested.holdout)
        known = self._artifacts.base_scores(base.digest)

        def planned(output: Path) -> JobPlan:
            job = EvaluatorJob(
                ritual=ritual.id,
                attempt=ritual.attempt,
                fence=held.fence,
                base=base.path,
                base_digest=base.digest,
                adapter=Path(forged.path),
                adapter_digest=forged.adapter,
                holdout=holdout,
                holdout_digest=harvested.holdout,
                suites=suites,
                output=output,
                seed=ritual.intent.seed,
                base_scores=known if known.exists() else None,
                probe_prompts=probe_prompts(holdout, self._settings.probes),
            )
            inputs = (base.path, Path(forged.path), holdout, suites)
            return JobPlan(job, (*inputs, *([known] if known.exists() else [])))

        return planned

    async def conclude(self, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
        harvested = await ledger.require_fact(self._context.pool, ritual.id, KarmaHarvested)
        forged = await ledger.require_fact(self._context.pool, ritual.id, AdapterForged)
        results = await asyncio.to_thread(read_model, finished.output, RESULTS_FILE, Results, LARGEST_RESULTS)
        measured = (results.base_digest, results.arms.get(Arm.CANDIDATE), results.holdout_digest)
        if measured != (forged.base, forged.adapter, harvested.holdout):
            raise OutputError(f"{RESULTS_FILE} is about another base, adapter or holdout than the job's")
        verdict = await asyncio.to_thread(self._judge, results)
        if warning := forged.training.replay.warning:
            verdict = verdict.model_copy(update={"warnings": (*verdict.warnings, warning)})
        kept = self._artifacts.base_scores(forged.base)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, results.kept_base_scores().model_dump_json())
        judged = AdapterVerified if verdict.decision == "promote" else AdapterBanished
        return judged(
            **ritual.key,
            adapter=forged.adapter,
            decision=verdict.decision,
            reasons=verdict.reasons,
            verdict=verdict,
            results=str(finished.output / RESULTS_FILE),
            spans=finished.result.spans,
            isolation=finished.isolation,
        )

    def _judge(self, results: Results) -> Verdict:
        """The verdict on what the job measured. Raises OutputError where the measurements allow none."""
        if len(results.probes) > self._settings.probes:
            raise OutputError(
                f"{RESULTS_FILE} has {len(results.probes)} probes, {self._settings.probes} were asked for"
            )
        suites = load_suites(self._context.configuration.suites)
        for name, suite in suites.items():
            asked, count = results.suites.get(name), items_asked(suites, name)
            if asked is None or (asked.digest, asked.items) != (suite.digest, count):
                raise OutputError(f"{RESULTS_FILE} is not about all {count} items of suite {name} as it is now")
        try:
            verdict = judge(results, effective_policy(self._settings.verdict, suites))
        except ValueError as error:
            raise OutputError(f"{RESULTS_FILE} cannot be judged: {error}") from error
        if len(verdict.model_dump_json()) > LARGEST_VERDICT:
            raise OutputError(f"{RESULTS_FILE} has too many items for a verdict of {LARGEST_VERDICT} bytes")
        return verdict


def effective_policy(owner: Policy, suites: Mapping[str, LoadedSuite]) -> Policy:
    """The owner's policy over the files' values. Raises ConfigurationError where it names a suite that is not there."""
    if unknown := sorted(owner.suites.keys() - suites.keys()):
        place = ("evaluation", "verdict", "suites", unknown[0])
        raise refusal("soulforge.toml", [Fault(place, f"there is no such suite; {nearest(unknown[0], suites)}")])
    changes = {name: policy.model_dump(exclude_unset=True) for name, policy in owner.suites.items()}
    needed = {name: suite.suite.policy.model_copy(update=changes.get(name, {})) for name, suite in suites.items()}
    return owner.model_copy(update={"suites": needed})


def probe_prompts(holdout: Path, count: int) -> tuple[str, ...]:
    """Held-out user messages, the first of each of `count` sessions; the registry asks them again later."""
    prompts: dict[str, str] = {}
    for _, line in lines(holdout / HOLDOUT):
        row = json.loads(line)
        turns = [message["content"] for message in row["messages"] if message["role"] == "user"]
        prompts.setdefault(row["session"], turns[0])
    return tuple(prompts[session] for session in sorted(prompts)[:count])
