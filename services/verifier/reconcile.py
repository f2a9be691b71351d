"""The verifier's stage: plan the evaluator job, and record the verdict on its results."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from services.verifier import store
from services.verifier.job import EvaluatorJob
from services.verifier.leaks import judge_leaks
from services.verifier.levels import strictest
from services.verifier.refinement import refining_intent, suggest
from services.verifier.results import RESULTS_FILE, Results
from services.verifier.sealed import SealedEvidence, expect_suites, expect_whole, read_records, seal
from shared.config.errors import ConfigurationError, Fault, nearest, refusal
from shared.contracts.forge import AdapterForged
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.probe import LEAST_PROBES, SAME_MODEL, Probe, limit, total
from shared.contracts.verify import (
    EVIDENCE_FILE,
    LARGEST_RESULTS,
    LARGEST_VERDICT,
    AdapterBanished,
    AdapterVerified,
    Arm,
    Champion,
    Look,
    Policy,
    Target,
    Verdict,
)
from shared.jobs.runner import Finished, JobPlan
from shared.redaction.policy import RedactionPolicy
from shared.redaction.scanner import Scanner
from shared.ritual import ledger
from shared.storage.artifacts import Artifacts, write_atomically
from shared.storage.base_model import BaseError, Bases
from shared.storage.digests import digest_text
from shared.storage.suites import LoadedSuite, load_suites
from shared.storage.untrusted import OutputError, read_model

if TYPE_CHECKING:
    from services.verifier.settings import VerifierSettings
    from shared.contracts.intent import Refinement, TrainingIntent
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
        champion = await self._find_champion(ritual.persona, base.digest)
        asked = champion.adapter if champion and is_asked(champion, forged.adapter) else None
        path = self._artifacts.bundled_adapter(asked) if asked else None

        def planned(output: Path) -> JobPlan:
            job = EvaluatorJob(
                ritual=ritual.id,
                attempt=ritual.attempt,
                fence=held.fence,
                base=base.path,
                base_digest=base.digest,
                adapter=Path(forged.path),
                adapter_digest=forged.adapter,
                champion=path,
                champion_digest=asked,
                holdout=holdout,
                holdout_digest=harvested.holdout,
                suites=suites,
                output=output,
                seed=ritual.intent.seed,
                base_scores=known if known.exists() else None,
                probes=self._settings.probes,
            )
            inputs = (base.path, Path(forged.path), holdout, suites)
            return JobPlan(job, (*inputs, *([known] if known.exists() else []), *([path] if path else [])))

        return planned

    async def conclude(self, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
        harvested = await ledger.require_fact(self._context.pool, ritual.id, KarmaHarvested)
        forged = await ledger.require_fact(self._context.pool, ritual.id, AdapterForged)
        results = await asyncio.to_thread(read_model, finished.output, RESULTS_FILE, Results, LARGEST_RESULTS)
        measured = (results.base_digest, results.arms.get(Arm.CANDIDATE), results.holdout_digest)
        if measured != (forged.base, forged.adapter, harvested.holdout):
            raise OutputError(f"{RESULTS_FILE} is about another base, adapter or holdout than the job's")
        evidence = await self._seal(ritual, harvested, forged, results)
        verdict = await asyncio.to_thread(_judge, evidence)
        await store.record_outcome(self._context.pool, ritual.id, verdict.target_state is Target.LEARNED)
        # Not in the job's own folder, where it may have left anything.
        path, text = finished.output.parent / EVIDENCE_FILE, evidence.model_dump_json()
        await asyncio.to_thread(write_atomically, path, text)
        kept = self._artifacts.base_scores(forged.base)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, results.kept_base_scores().model_dump_json())
        fact = AdapterVerified(
            **ritual.key,
            adapter=forged.adapter,
            decision=verdict.decision,
            reasons=verdict.reasons,
            verdict=verdict,
            results=str(finished.output / RESULTS_FILE),
            evidence=str(path),
            evidence_digest=digest_text(text),
            spans=finished.result.spans,
            isolation=finished.isolation,
        )
        if verdict.decision == "promote":
            return fact
        return AdapterBanished(**dict(fact), suggested=await self._suggest(ritual, verdict, forged.training.epochs))

    def out_of_memory(self, ritual: Ritual, finished: Finished) -> None:
        """A failure like any other: the evaluator has no smaller way to work."""

    def request_after(self, ritual: Ritual, fact: Fact) -> TrainingIntent | None:
        """A banished ritual asks for the one that refines it, where the policy is to."""
        return refining_intent(ritual, fact)

    async def _suggest(self, ritual: Ritual, verdict: Verdict, epochs: float) -> Refinement | None:
        """A gentler recipe, requested while fewer rituals than the policy's refine the same one."""
        intent = ritual.intent
        try:
            recipe = self._context.configuration.recipe(intent.recipe, intent.persona, intent.overrides)
        except ConfigurationError:  # its owner has changed or removed it since
            return None
        if (suggested := suggest(verdict, intent, recipe, epochs)) is None:
            return None
        refined = await ledger.count_refinements(self._context.pool, ritual.id)
        return suggested.model_copy(update={"requested": refined < self._settings.refinements})

    async def _seal(
        self, ritual: Ritual, harvested: KarmaHarvested, forged: AdapterForged, results: Results
    ) -> SealedEvidence:
        """What the verdict follows from. Raises OutputError where the job did not measure all that it was to measure."""
        if len(results.probes) > self._settings.probes:
            raise OutputError(
                f"{RESULTS_FILE} has {len(results.probes)} probes, {self._settings.probes} were asked for"
            )
        suites = load_suites(self._context.configuration.suites)
        policy = effective_policy(self._settings.verdict, suites)
        records = await asyncio.to_thread(read_records, self._artifacts.holdout(harvested.holdout))
        champion = await self._find_champion(ritual.persona, forged.base)
        try:
            expect_suites(results, suites)
            expect_whole(results, records)
            scanner = await asyncio.to_thread(Scanner, RedactionPolicy())
            trained = self._artifacts.manifest(harvested.manifest)
            results, invented = await asyncio.to_thread(judge_leaks, results, suites, scanner, trained)
        except ValueError as error:
            raise OutputError(f"{RESULTS_FILE} cannot be judged: {error}") from error
        sealed, labels = await asyncio.to_thread(seal, results, records, str(ritual.id))
        sessions = [row.session for row in results.holdout]
        looked = await store.record_look(self._context.pool, ritual.id, ritual.persona, sessions, policy.looks)
        warnings = (forged.training.replay.warning, about_probes(results.probes), *invented)
        return SealedEvidence(
            salt=str(ritual.id),
            policy=policy,
            look=Look(
                history=strictest(looked.histories, 1 - policy.target_confidence),
                worn=tuple(sorted(labels[name] for name in looked.worn)),
            ),
            champion=as_measured(champion, forged.adapter, results) if champion else None,
            warnings=tuple(text for text in warnings if text),
            results=sealed,
        )

    async def _find_champion(self, persona: str, base: str) -> Champion | None:
        """The champion of a persona, and why it is not asked beside a candidate on this base."""
        found = await store.get_champion(self._context.pool, persona)
        if found is None:
            return None
        obstacle = found.fault
        if obstacle is None and found.base != base:
            obstacle = "it was trained on another base"
        if obstacle is None and not self._artifacts.bundled_adapter(found.adapter).is_dir():
            obstacle = "its bundle is not in the Crypt"
        return Champion(version=found.name, adapter=found.adapter, obstacle=obstacle, serves=found.fault is None)


def _judge(evidence: SealedEvidence) -> Verdict:
    """The verdict that follows. Raises OutputError where none does."""
    try:
        verdict = evidence.verdict()
    except ValueError as error:
        raise OutputError(f"{RESULTS_FILE} cannot be judged: {error}") from error
    if len(verdict.model_dump_json()) > LARGEST_VERDICT:
        raise OutputError(f"{RESULTS_FILE} has too many items for a verdict of {LARGEST_VERDICT} bytes")
    return verdict


def is_asked(champion: Champion, candidate: str) -> bool:
    return champion.obstacle is None and champion.adapter != candidate


def as_measured(champion: Champion, candidate: str, results: Results) -> Champion:
    """The champion of now, as the evaluation met it: it may have become that later, or not have been readable."""
    if not is_asked(champion, candidate) or results.arms.get(Arm.CHAMPION) == champion.adapter:
        return champion
    return champion.model_copy(
        update={"obstacle": results.champion_fault or "it became the champion while the candidate was evaluated"}
    )


def about_probes(probes: tuple[Probe, ...]) -> str | None:
    """What the probes cannot prove once the adapter serves; None where they prove all."""
    base = total(probe.base for probe in probes).mean
    if len(probes) < LEAST_PROBES or base < 2 * SAME_MODEL:
        return f"Its answers are {base:.2f} nats a token from the base's: no engine can prove that it serves it."
    champions = [probe.champion for probe in probes if probe.champion]
    if champions and total(champions).mean < 2 * limit(base):
        return (
            f"Its answers are {total(champions).mean:.2f} nats a token from the champion's: an engine can prove that it is "
            "not the base, and no more."
        )
    return None


def effective_policy(owner: Policy, suites: Mapping[str, LoadedSuite]) -> Policy:
    """The owner's policy over the files' values. Raises ConfigurationError where it names a suite that is not there."""
    if unknown := sorted(owner.suites.keys() - suites.keys()):
        place = ("evaluation", "verdict", "suites", unknown[0])
        raise refusal("soulforge.toml", [Fault(place, f"there is no such suite; {nearest(unknown[0], suites)}")])
    changes = {name: policy.model_dump(exclude_unset=True) for name, policy in owner.suites.items()}
    needed = {name: suite.suite.policy.model_copy(update=changes.get(name, {})) for name, suite in suites.items()}
    return owner.model_copy(update={"suites": needed})
