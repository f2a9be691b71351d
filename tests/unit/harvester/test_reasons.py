"""Every reason for leaving a record out comes with what to do about it."""

from __future__ import annotations

import pytest

from services.harvester.policy import HarvestPolicy
from services.harvester.reasons import Reason
from services.harvester.refusal import remedy


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_remedy_that_the_policy_completes(reason: Reason) -> None:
    text = remedy(reason, HarvestPolicy())

    assert len(text) > 20 and "{" not in text


def test_a_remedy_names_what_the_policy_has_now() -> None:
    policy = HarvestPolicy.model_validate({"licences": ["MIT", "0BSD"], "lengths": {"row": 77}})

    assert "accepts MIT, 0BSD: add" in remedy(Reason.LICENCE, policy)
    assert "(now 77 tokens)" in remedy(Reason.TOO_LONG, policy)
    assert "accepts none: add" in remedy(Reason.LICENCE, HarvestPolicy(licences=()))
