"""The forge: consumes `karma.harvested` and `gpu.evacuated`, records `adapter.forged` or `adapter.failed`."""

from __future__ import annotations

from services.forge.ask_base import BaseAnswers
from services.forge.handlers import router
from services.forge.reconcile import ROLE, Forge
from services.forge.settings import ForgeSettings
from shared.contracts.ritual import State
from shared.jobs.gpu_stage import GpuStage
from shared.jobs.runner import JobKind
from shared.runtime.context import ServiceContext
from shared.runtime.service import App, Service

TRAINER = "services.forge.trainer"


def build(context: ServiceContext, trainer: str = TRAINER) -> Service:
    """Wire the service; `trainer` is the module that is run as its job."""
    settings = context.configuration.section(ForgeSettings)
    kind = JobKind(ROLE, ("-m", trainer), settings.memory, settings.time_limit_s, settings.stalled_after_s)
    stage = GpuStage(context, State.EVACUATED, kind, settings.max_attempts, Forge(context))
    answers = BaseAnswers(context, settings.replay_budget_s)
    return Service(
        stage.reconcile,
        loops=(stage.heartbeat(), answers.loop()),
        checks={"jobs": stage.check_isolation},
        dependencies={"replay": answers.woken},
    )


app = App("forge", router, build)
