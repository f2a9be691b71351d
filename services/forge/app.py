"""The forge: hears `gpu.evacuated`, states `adapter.forged` or `adapter.failed`."""

from __future__ import annotations

from services.forge.reconcile import reconcile, watch
from shared.contracts.message import Service
from shared.service import App

app = App(service=Service.FORGE, handlers={}, background=(watch,), reconcile=reconcile)
