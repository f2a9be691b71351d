"""`[harvest]`: what is admitted to a training set; `[auto_trigger]`: when karma asks for a ritual by itself."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.harvester.auto_trigger.policy import TriggerPolicy
from services.harvester.policy import HarvestPolicy
from shared.config.tables import Section


class HarvesterSettings(HarvestPolicy, Section):
    """The policy, and what a harvest takes besides."""

    table: ClassVar[str] = "harvest"

    min_train: int = Field(40, ge=1, description="Fewest records worth a training run.")
    min_held_out: int = Field(12, ge=1, description="Fewest records in the sealed holdout that can carry a verdict.")
    view: str | None = Field(
        None,
        pattern=r"^[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}$",
        description="SQL view, as schema.name, whose rows are taken over as karma before each harvest.",
    )

    @property
    def policy(self) -> HarvestPolicy:
        """The policy alone, as it is written into a manifest."""
        return HarvestPolicy(**{name: getattr(self, name) for name in HarvestPolicy.model_fields})


class TriggerSettings(TriggerPolicy, Section):
    table: ClassVar[str] = "auto_trigger"

    poll_s: float = Field(60.0, gt=0, description="Seconds between two checks.")
