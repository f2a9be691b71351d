"""What the forge is told beyond the common settings."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.jobs.runner import GIB


class ForgeSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SOULFORGE_FORGE_", frozen=True, extra="ignore")

    memory_bytes: int = Field(
        10 * GIB, gt=0, description="Most resident memory of a trainer job, in bytes. Default: 10 GiB."
    )
    time_limit_s: float = Field(
        4 * 3600, gt=0, description="Longest life of a trainer job, in seconds. Default: 4 hours."
    )
    max_attempts: int = Field(3, ge=1, description="Attempts after which lost GPU work fails the ritual. Default: 3.")
