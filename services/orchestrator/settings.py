"""Settings of the orchestrator, beside the common ones and `soulforge.toml`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class OrchestratorSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SOULFORGE_ORCHESTRATOR_", frozen=True, extra="ignore")

    max_attempts: int = Field(3, ge=1, description="Attempts after which lost GPU work fails the ritual. Default: 3.")
    contain_after: int = Field(
        3, ge=1, description="Failures of a rune in a row after which its anvil is contained. Default: 3."
    )
    models_within_s: float = Field(
        60.0,
        gt=0,
        description="Time a restored rune waits for its adapters before it opens without them. Default: 60 s.",
    )
    reclaim_grace_s: float = Field(
        60.0, gt=0, description="Time a job has to save a checkpoint when the anvil is reclaimed. Default: 60 s."
    )
