"""Make every forged adapter meet its verdict: start the evaluator, follow it, judge its results by statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from services.verifier.evidence import Policy
from services.verifier.job import HOLDOUT, EvaluatorJob
from services.verifier.results import BASE_SCORES_FILE, RESULTS_FILE, Results
from services.verifier.settings import VerifierSettings
from services.verifier.verdict import judge
from shared import ledger
from shared.artifacts import write_atomically
from shared.attempts import at_work, unfinished
from shared.base import find_base
from shared.contracts.ritual import State
from shared.contracts.verify import AdapterBanished, AdapterVerified
from shared.jobs import Finished, JobKind, JobPlan, Jobs, job_containers
from shared.shards import lines
from shared.watchdog import watch_lease

if TYPE_CHECKING:
    from shared.lease import Lease
    from shared.ledger import Ritual
    from shared.service import Station

ROLE = "evaluator"
SUITES = Path(__file__).parent / "suites"


async def watch(station: Station) -> None:
    await watch_lease(station, job_containers(station), State.FORGED, ROLE)


async def reconcile(station: Station, evaluator: str) -> None:
    """One look; `evaluator` is the module that is run as the job."""
    settings = VerifierSettings()
    kind = JobKind(ROLE, ("-m", evaluator), settings.memory_bytes, settings.time_limit_s)
    jobs = Jobs(station, job_containers(station), kind)
    for ritual, held in await at_work(station.pool, State.FORGED):
        await _verify(station, jobs, ritual, held, settings)


async def _verify(station: Station, jobs: Jobs, ritual: Ritual, held: Lease, settings: VerifierSettings) -> None:
    if ritual.cancel_requested_at:
        await jobs.stop(ritual)
        await station.state_cancelled(ritual)
        return
    harvested = await ledger.fact_body(station.pool, ritual.id, "karma.harvested")
    forged = await ledger.fact_body(station.pool, ritual.id, "adapter.forged")
    if harvested is None or forged is None:
        raise RuntimeError(f"ritual {ritual.id} is forged without a manifest or an adapter")
    base = find_base(station.settings)
    holdout = jobs.artifacts.holdout(harvested["holdout"])
    known = jobs.artifacts.base_scores(base.digest)

    def plan(output: Path) -> JobPlan:
        job = EvaluatorJob(
            ritual=ritual.id,
            attempt=ritual.attempt,
            fence=held.fence,
            base=base.path,
            base_digest=base.digest,
            adapter=Path(forged["path"]),
            adapter_digest=forged["adapter"],
            holdout=holdout,
            holdout_digest=harvested["holdout"],
            suites=SUITES,
            output=output,
            seed=ritual.intent["seed"],
            base_scores=known if known.exists() else None,
            probe_prompts=probe_prompts(holdout, settings.probes),
        )
        return JobPlan(job, (base.path, Path(forged["path"]), holdout, *([known] if known.exists() else [])))

    if finished := await jobs.follow(ritual, held.fence, plan):
        await _conclude(station, jobs, ritual, held, forged["adapter"], finished, settings)
        await jobs.forget(ritual)


def probe_prompts(holdout: Path, count: int) -> tuple[str, ...]:
    """User turns the adapter was not trained on, the first of as many sessions; the registry asks them again later."""
    prompts: dict[str, str] = {}
    for _, line in lines(holdout / HOLDOUT):
        row = json.loads(line)
        turns = [message["content"] for message in row["messages"] if message["role"] == "user"]
        prompts.setdefault(row["session"], turns[0])
    return tuple(prompts[session] for session in sorted(prompts)[:count])


async def _conclude(
    station: Station,
    jobs: Jobs,
    ritual: Ritual,
    held: Lease,
    adapter: str,
    finished: Finished,
    settings: VerifierSettings,
) -> None:
    result, started_at = finished.result, ritual.entered_at
    if result.ok:
        file = finished.output / RESULTS_FILE
        results = Results.model_validate_json(file.read_bytes())
        verdict = judge(results, Policy())
        _keep_base_scores(finished.output / BASE_SCORES_FILE, jobs.artifacts.base_scores(results.base_digest))
        said = AdapterVerified if verdict.decision == "promote" else AdapterBanished
        judged = said(
            **ritual.key,
            adapter=adapter,
            decision=verdict.decision,
            reasons=verdict.reasons,
            verdict=verdict.model_dump(mode="json"),
            results=str(file),
            spans=result.spans,
            isolation=finished.isolation,
        )
        await station.state(judged, started_at, held.fence)
    else:
        failures = await ledger.failures(station.pool, ritual.id)
        await station.state(unfinished(ritual, result, failures, settings.max_attempts), started_at, held.fence)


def _keep_base_scores(measured: Path, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(kept, measured.read_text(encoding="utf-8"))
