"""`[serving]`: how a loaded adapter is proven, and what a recall does to it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from shared.config.tables import Section
from shared.contracts.registry import RecallAction


class RegistrySettings(Section):
    table: ClassVar[str] = "serving"

    probe_tries: int = Field(5, ge=1, description="Failed bindings after which a ritual fails.")
    on_recall: RecallAction = Field(
        "warn",
        description="Action on adapters whose karma was revoked: `warn`, `withdraw`, or `withdraw_and_retrain`.",
    )
