"""Fixtures of the drivers' tests: one proxy before the engine for the whole session."""

from __future__ import annotations

from tests.support.proxied import lab, proxied

__all__ = ["lab", "proxied"]
