"""The container engine of the session, for the suites that ask for it."""

from __future__ import annotations

from tests.engine import dockerd, engine

__all__ = ["dockerd", "engine"]
