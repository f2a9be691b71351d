"""What the harvester is told beyond the common settings."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class HarvesterSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SOULFORGE_HARVESTER_", frozen=True, extra="ignore")

    min_train: int = Field(40, ge=1, description="Fewest records worth a training run. Default: 40.")
    min_held_out: int = Field(
        12, ge=1, description="Fewest records in the sealed holdout that can carry a verdict. Default: 12."
    )
