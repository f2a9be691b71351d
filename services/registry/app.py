"""The registry: consumes `adapter.verified`, `gpu.restored` and `karma.recalled`; records `adapter.registered` and `adapter.awakened`."""

from __future__ import annotations

from services.registry.handlers import router
from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from shared.runtime.context import ServiceContext
from shared.runtime.service import App, Service


def build(context: ServiceContext) -> Service:
    registry = Registry(context, context.configuration.section(RegistrySettings))
    return Service(registry.reconcile, start=registry.start, checks={"serving": registry.check_serving})


app = App("registry", router, build)
