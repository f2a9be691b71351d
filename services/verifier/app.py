"""The verifier: hears `adapter.forged`, states `adapter.verified` or `adapter.banished`."""

from __future__ import annotations

from services.verifier.reconcile import reconcile, watch
from shared.contracts.message import Service
from shared.service import App

app = App(service=Service.VERIFIER, handlers={}, background=(watch,), reconcile=reconcile)
