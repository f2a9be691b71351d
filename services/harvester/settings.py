"""Settings of the harvester."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class HarvesterSettings(BaseSettings):
    """Settings of the harvester, from `SOULFORGE_HARVESTER_*`."""

    model_config = SettingsConfigDict(env_prefix="SOULFORGE_HARVESTER_", frozen=True, extra="ignore")

    min_train: int = Field(40, ge=1, description="Fewest records worth a training run. Default: 40.")
    min_held_out: int = Field(
        12, ge=1, description="Fewest records in the sealed holdout that can carry a verdict. Default: 12."
    )
    policy: Path | None = Field(
        None,
        description="TOML file with the policy of admission. Default: <home>/harvest.toml, else the built-in policy.",
    )
    view: str | None = Field(
        None,
        pattern=r"^[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}$",
        description="SQL view, as schema.name, whose rows are taken over as karma before each harvest. Default: none.",
    )
