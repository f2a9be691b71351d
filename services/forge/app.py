"""The forge: hears `gpu.evacuated`, states `adapter.forged` or `adapter.failed`."""

from __future__ import annotations

from functools import partial

from services.forge.reconcile import reconcile, watch
from shared.contracts.message import Service
from shared.service import App


def forge(module: str = "services.forge.trainer") -> App:
    """The service, with the module that is run as its trainer job."""
    look = partial(reconcile, trainer=module)
    return App(service=Service.FORGE, handlers={}, background=(watch,), reconcile=look)


app = forge()
