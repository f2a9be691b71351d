"""The verifier's stage: what its evaluator job gets, and the verdict on the results that the job left."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.verifier.evidence import Policy
from services.verifier.job import HOLDOUT, EvaluatorJob
from services.verifier.results import BASE_SCORES_FILE, RESULTS_FILE, Results
from services.verifier.settings import VerifierSettings
from services.verifier.verdict import judge
from shared.contracts.ritual import State
from shared.contracts.verify import AdapterBanished, AdapterVerified
from shared.jobs.gpu_stage import GpuStage
from shared.jobs.runner import Finished, JobKind, JobPlan
from shared.ritual import ledger
from shared.storage.artifacts import Artifacts, write_atomically
from shared.storage.base_model import find_base
from shared.storage.shards import lines

if TYPE_CHECKING:
    from shared.contracts.message import Fact
    from shared.jobs.gpu_stage import Planner
    from shared.ritual.lease import Lease
    from shared.ritual.ledger import Ritual
    from shared.runtime.service import ServiceContext

SUITES = Path(__file__).parent / "suites"


def stage(evaluator: str, settings: VerifierSettings) -> GpuStage:
    """The stage whose job runs the module `evaluator`."""
    kind = JobKind("evaluator", ("-m", evaluator), settings.memory_bytes, settings.time_limit_s)
    return GpuStage(State.FORGED, kind, settings.max_attempts, partial(plan, settings.probes), conclude)


async def plan(probes: int, context: ServiceContext, ritual: Ritual, held: Lease) -> Planner:
    harvested, forged = [await _fact(context, ritual, name) for name in ("karma.harvested", "adapter.forged")]
    artifacts = Artifacts(context.settings.home)
    base = find_base(context.settings)
    holdout = artifacts.holdout(harvested["holdout"])
    known = artifacts.base_scores(base.digest)

    def planned(output: Path) -> JobPlan:
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
            probe_prompts=probe_prompts(holdout, probes),
        )
        return JobPlan(job, (base.path, Path(forged["path"]), holdout, *([known] if known.exists() else [])))

    return planned


async def _fact(context: ServiceContext, ritual: Ritual, subject: str) -> dict[str, Any]:
    if body := await ledger.fact_body(context.pool, ritual.id, subject):
        return body
    raise RuntimeError(f"ritual {ritual.id} is forged without {subject}")


def probe_prompts(holdout: Path, count: int) -> tuple[str, ...]:
    """User turns the adapter was not trained on, the first of as many sessions; the registry asks them again later."""
    prompts: dict[str, str] = {}
    for _, line in lines(holdout / HOLDOUT):
        row = json.loads(line)
        turns = [message["content"] for message in row["messages"] if message["role"] == "user"]
        prompts.setdefault(row["session"], turns[0])
    return tuple(prompts[session] for session in sorted(prompts)[:count])


async def conclude(context: ServiceContext, ritual: Ritual, held: Lease, finished: Finished) -> Fact:
    file = finished.output / RESULTS_FILE
    results = Results.model_validate_json(file.read_bytes())
    verdict = judge(results, Policy())
    kept = Artifacts(context.settings.home).base_scores(results.base_digest)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(kept, (finished.output / BASE_SCORES_FILE).read_text(encoding="utf-8"))
    judged = AdapterVerified if verdict.decision == "promote" else AdapterBanished
    return judged(
        **ritual.key,
        adapter=(await _fact(context, ritual, "adapter.forged"))["adapter"],
        decision=verdict.decision,
        reasons=verdict.reasons,
        verdict=verdict.model_dump(mode="json"),
        results=str(file),
        spans=finished.result.spans,
        isolation=finished.isolation,
    )
