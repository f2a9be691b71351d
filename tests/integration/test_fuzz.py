"""A seeded share of the faults of `make test-fuzz`: an awaited call fails, and no ritual stays stuck."""

from __future__ import annotations

import pytest

from tests.support.reports import report_of

SEED = 1
SHARE = 0.02
LEAST_FIRED = 100
WITHIN_S = 400


@pytest.mark.timeout(WITHIN_S + 20)
async def test_no_fault_at_an_awaited_call_leaves_a_ritual_stuck() -> None:
    """In a process of its own: the services are rewritten while they are imported."""
    found = await report_of("tests.fuzz.run", WITHIN_S, seed=SEED, share=SHARE)

    assert found["stuck"] == [] and found["faults"] >= LEAST_FIRED
    assert found["reached"] > found["sites"] / 2
