"""The registry: hears `adapter.verified` and `gpu.restored`, states `adapter.registered` and `adapter.awakened`."""

from __future__ import annotations

from services.registry.reconcile import Registry
from shared.contracts.message import Service
from shared.service import App

app = App(service=Service.REGISTRY, handlers={}, reconcile=Registry().reconcile)
