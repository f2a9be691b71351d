"""The gateway: consumes facts about versions; records nothing about rituals. Its door is open also while the rest is away."""

from __future__ import annotations

from services.gateway.door import Door
from services.gateway.handlers import router
from services.gateway.servers import open_door
from shared.runtime.context import ServiceContext
from shared.runtime.service import App, Service


def build(context: ServiceContext) -> Service:
    assert isinstance(context.door, Door)
    door = context.door

    async def read_table() -> None:
        door.changed.set()

    return Service(read_table, checks={"table": door.check_table})


app = App("gateway", router, build, open_door)
