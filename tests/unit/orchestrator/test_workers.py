"""The services that the orchestrator expects to work on an anvil are those that own its states."""

from __future__ import annotations

from deploy.services import OWNERS
from services.forge.reconcile import ROLE as TRAINER
from services.orchestrator.anvil import JOB_ROLES, WORKERS
from services.verifier.reconcile import ROLE as EVALUATOR
from shared.contracts.ritual import HOLDS_ANVIL


def test_every_state_that_holds_an_anvil_has_its_owner_and_its_kind_of_job() -> None:
    assert {state: OWNERS[state] for state in HOLDS_ANVIL} == WORKERS
    assert JOB_ROLES == (TRAINER, EVALUATOR)
