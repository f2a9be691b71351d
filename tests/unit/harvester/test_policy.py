"""The harvest's policy: apart from what a harvest takes besides."""

from __future__ import annotations

from services.harvester.policy import HarvestPolicy
from services.harvester.settings import HarvesterSettings


def test_the_policy_of_the_settings_has_every_field_of_it_and_nothing_else() -> None:
    settings = HarvesterSettings.model_validate({"common_passage": 7, "split": {"dev": 0.1}, "view": "a.b"})

    assert settings.policy == HarvestPolicy.model_validate({"common_passage": 7, "split": {"dev": 0.1}})
    assert HarvesterSettings().policy == HarvestPolicy()
