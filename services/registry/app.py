"""The registry: hears `adapter.verified`, `gpu.restored` and `karma.recalled`; states `adapter.registered` and `adapter.awakened`."""

from __future__ import annotations

from services.registry.recall import karma_recalled
from services.registry.reconcile import Registry
from shared.contracts.karma import KarmaRecalled
from shared.contracts.message import Service
from shared.runtime.service import App

app = App(service=Service.REGISTRY, handlers={KarmaRecalled: karma_recalled}, reconcile=Registry().reconcile)
