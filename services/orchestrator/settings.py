"""`[hand_over]`: attempts and times of taking an anvil and giving it back."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from shared.config.tables import Section


class OrchestratorSettings(Section):
    table: ClassVar[str] = "hand_over"

    max_attempts: int = Field(3, ge=1, description="Attempts after which lost GPU work fails the ritual.")
    contain_after: int = Field(3, ge=1, description="Failures of a rune in a row after which its anvil is contained.")
    models_within_s: float = Field(
        60.0, gt=0, description="Seconds that a restored rune waits for its adapters before it opens without them."
    )
    reclaim_grace_s: float = Field(
        60.0, gt=0, description="Seconds that a job has to save a checkpoint when the anvil is reclaimed."
    )
