"""The orchestrator: consumes facts and commands about anvils; records `gpu.evacuated`, `gpu.refused` and `gpu.restored`."""

from __future__ import annotations

from services.orchestrator.anvil import open_anvils
from services.orchestrator.handlers import router
from services.orchestrator.reconcile import Reconciler
from services.orchestrator.settings import OrchestratorSettings
from shared.config.settings import SettingsError
from shared.drivers.accelerators.port import AcceleratorError
from shared.runtime.context import ServiceContext
from shared.runtime.service import App, Service


def build(context: ServiceContext) -> Service:
    """Wire the service. Raises SettingsError where a configured device cannot be read."""
    try:
        anvils = open_anvils(context, context.configuration.section(OrchestratorSettings))
    except AcceleratorError as error:
        raise SettingsError(str(error)) from error
    reconciler = Reconciler(anvils, context.configuration.runtime.reconcile_s)
    return Service(reconciler.reconcile, start=reconciler.clean_up, stop=reconciler.stop)


app = App("orchestrator", router, build)
