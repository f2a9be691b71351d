"""The container engine of the session, for whole parts of the house in containers."""

from __future__ import annotations

from tests.engine import dockerd, engine

__all__ = ["dockerd", "engine"]
