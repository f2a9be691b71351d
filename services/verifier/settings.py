"""What the verifier is told beyond the common settings."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.jobs.runner import GIB


class VerifierSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SOULFORGE_VERIFIER_", frozen=True, extra="ignore")

    memory_bytes: int = Field(
        10 * GIB, gt=0, description="Most resident memory of an evaluator job, in bytes. Default: 10 GiB."
    )
    time_limit_s: float = Field(
        2 * 3600, gt=0, description="Longest life of an evaluator job, in seconds. Default: 2 hours."
    )
    max_attempts: int = Field(3, ge=1, description="Attempts after which lost GPU work fails the ritual. Default: 3.")
    probes: int = Field(
        3, ge=1, le=10, description="Fixed prompts whose greedy answers prove the binding later. Default: 3."
    )
