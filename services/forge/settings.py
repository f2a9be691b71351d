"""`[training]`: what a trainer job may use."""

from __future__ import annotations

from pydantic import Field

from shared.config.tables import TrainingTable


class ForgeSettings(TrainingTable):
    time_limit_s: float = Field(4 * 3600.0, gt=0, description="Longest life of a trainer job, in seconds.")
    stalled_after_s: float = Field(
        1800.0, gt=0, description="Seconds without progress after which the job is ended; its attempt has failed."
    )
    replay_budget_s: float = Field(
        300.0,
        ge=0,
        description="Seconds for which the base is asked, while it serves and nobody else asks, for the answers that a ritual trains "
        "with. 0: its job makes all of them.",
    )
    max_attempts: int = Field(3, ge=1, description="Attempts after which lost GPU work fails the ritual.")
