"""The gateway: consumes facts about versions; records nothing about rituals. Its door is open also while the rest is away."""

from __future__ import annotations

from functools import partial

from services.gateway.door import Door
from services.gateway.handlers import router
from services.gateway.reconcile import read_now
from services.gateway.servers import open_door
from shared.runtime.context import ServiceContext
from shared.runtime.service import App, Service


def build(context: ServiceContext) -> Service:
    assert isinstance(context.door, Door)
    return Service(partial(read_now, context.door), checks={"table": context.door.check_table})


app = App("gateway", router, build, open_door)
