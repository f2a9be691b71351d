"""A short history of `make test-chaos`: real processes meet faults while intents arrive, and no promise is broken."""

from __future__ import annotations

import pytest

from tests.support.reports import report_of

SEED = 1
MINUTES = 1.0
LEAST_FAULTS = 15
LEAST_KINDS = 8
WITHIN_S = 420


@pytest.mark.timeout(WITHIN_S + 20)
async def test_a_history_of_faults_loses_doubles_and_blocks_nothing() -> None:
    found = await report_of("tests.chaos.run", WITHIN_S, seed=SEED, minutes=MINUTES)

    assert found["breaches"] == [] and found["faults"] >= LEAST_FAULTS
    assert len(found["faults_by_kind"]) >= LEAST_KINDS and found["rituals"] > 0
