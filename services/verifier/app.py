"""The verifier: hears `adapter.forged`, states `adapter.verified` or `adapter.banished`."""

from __future__ import annotations

from services.verifier.reconcile import stage
from services.verifier.settings import VerifierSettings
from shared.contracts.message import Service
from shared.runtime.service import App


def verifier(evaluator: str = "services.verifier.evaluator") -> App:
    """The service, with the module that is run as its evaluator job."""
    work = stage(evaluator, VerifierSettings())
    return App(service=Service.VERIFIER, handlers={}, background=(work.watch,), reconcile=work.reconcile)


app = verifier()
