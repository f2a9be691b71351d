"""A machine that can or cannot isolate jobs, whatever this one can."""

from __future__ import annotations

import pytest

from shared.drivers.containers.process import ProcessContainers

WHY = "jobs cannot be isolated: bwrap is not installed. Install it."


def let_isolate(monkeypatch: pytest.MonkeyPatch, why_not: str | None = None) -> None:
    """Let processes be isolated, or not for this reason."""

    async def why_not_isolated(_: ProcessContainers) -> str | None:
        return why_not

    monkeypatch.setattr(ProcessContainers, "why_not_isolated", why_not_isolated)
