"""What the registry is told beyond the common settings."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contracts.registry import RecallAction


class RegistrySettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SOULFORGE_REGISTRY_", frozen=True, extra="ignore")

    probe_tokens: int = Field(24, ge=4, le=200, description="Tokens of each probe answer. Default: 24.")
    probe_tries: int = Field(5, ge=1, description="Failed bindings after which a ritual fails. Default: 5.")
    on_recall: RecallAction = Field(
        "warn",
        description="What is done with adapters whose karma was revoked: `warn`, `withdraw`, or `withdraw_and_retrain`. "
        "Default: warn.",
    )
