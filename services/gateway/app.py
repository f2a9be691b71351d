"""The gateway: announces what can be asked, and records nothing about rituals. Its door is open also while the rest is away."""

from __future__ import annotations

from services.gateway.door import Door
from services.gateway.handlers import router
from services.gateway.jobs.progress import ProgressReader
from services.gateway.jobs.reconcile import JobReconciler
from services.gateway.reconcile import reconcile
from services.gateway.servers import open_door
from shared.runtime.context import ServiceContext
from shared.runtime.loops import Loop
from shared.runtime.service import App, Service


def build(context: ServiceContext) -> Service:
    assert isinstance(context.door, Door)
    door = context.door
    door.engines.on_change = context.wake
    door.decisions.connect(context)
    door.jobs.connect(context)
    progress, jobs = ProgressReader(context, door.jobs), JobReconciler(context, door.jobs)
    every_s = context.configuration.runtime.reconcile_s
    loops = (door.files.connect(context), Loop("jobs", jobs.run, every_s, door.jobs.woken))

    async def make_pass() -> None:
        door.changed.set()
        await reconcile(context, door)

    return Service(make_pass, loops, progress.start, progress.stop, checks={"table": door.check_table})


app = App("gateway", router, build, open_door)
