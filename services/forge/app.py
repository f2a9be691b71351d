"""The forge: hears `gpu.evacuated`, states `adapter.forged` or `adapter.failed`."""

from __future__ import annotations

from services.forge.reconcile import stage
from services.forge.settings import ForgeSettings
from shared.contracts.message import Service
from shared.runtime.service import App


def forge(trainer: str = "services.forge.trainer") -> App:
    """The service, with the module that is run as its trainer job."""
    work = stage(trainer, ForgeSettings())
    return App(service=Service.FORGE, handlers={}, background=(work.watch,), reconcile=work.reconcile)


app = forge()
