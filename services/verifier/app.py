"""The verifier: consumes `adapter.forged`, records `adapter.verified` or `adapter.banished`."""

from __future__ import annotations

from services.verifier.handlers import router
from services.verifier.reconcile import ROLE, Verifier, effective_policy
from services.verifier.settings import VerifierSettings
from shared.contracts.ritual import State
from shared.jobs.gpu_stage import GpuStage
from shared.jobs.runner import JobKind
from shared.runtime.context import ServiceContext
from shared.runtime.service import App, Service
from shared.storage.suites import load_suites

EVALUATOR = "services.verifier.evaluator"


def build(context: ServiceContext, evaluator: str = EVALUATOR) -> Service:
    """Wire the service; `evaluator` is the module that is run as its job. Raises ConfigurationError."""
    settings = context.configuration.section(VerifierSettings)
    effective_policy(settings.verdict, load_suites(context.configuration.suites))
    kind = JobKind(ROLE, ("-m", evaluator), settings.memory, settings.time_limit_s, settings.stalled_after_s)
    stage = GpuStage(context, State.FORGED, kind, settings.max_attempts, Verifier(context, settings))
    return Service(stage.reconcile, loops=(stage.heartbeat(),), checks={"jobs": stage.check_isolation})


app = App("verifier", router, build)
