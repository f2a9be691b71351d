"""Write a `soulforge.toml` for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.cli.views.config import to_toml
from shared.config.settings import Settings

QUICK: dict[str, Any] = {"lease_ttl_s": 6.0, "reconcile_s": 0.2}  # [runtime] of a test: nothing waits long


def configured(settings: Settings, folder: Path, **tables: dict[str, Any]) -> Settings:
    """The same settings with a file of these tables, written into `folder`."""
    path = folder / "soulforge.toml"
    path.write_text(to_toml({"runtime": QUICK, **tables}))
    return settings.model_copy(update={"config": path})
