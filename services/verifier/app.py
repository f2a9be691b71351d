"""The verifier: hears `adapter.forged`, states `adapter.verified` or `adapter.banished`."""

from __future__ import annotations

from functools import partial

from services.verifier.reconcile import reconcile, watch
from shared.contracts.message import Service
from shared.service import App


def verifier(module: str = "services.verifier.evaluator") -> App:
    """The service, with the module that is run as its evaluator job."""
    look = partial(reconcile, evaluator=module)
    return App(service=Service.VERIFIER, handlers={}, background=(watch,), reconcile=look)


app = verifier()
