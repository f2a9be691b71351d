"""Stages 6 and 7, registration and awakening: a verified adapter becomes a version that serves. Stated by the registry."""

from __future__ import annotations

from typing import ClassVar

from shared.contracts.message import Fact


class AdapterRegistered(Fact):
    """The bundle is frozen in the Crypt under its digest. `version` is the name that the engine serves it by."""

    subject: ClassVar[str] = "adapter.registered"
    step: ClassVar[str] = "register"

    adapter: str
    version: str
    bundle: str


class AdapterAwakened(Fact):
    """The version is loaded, was proven to be the one answering, and the alias points to it."""

    subject: ClassVar[str] = "adapter.awakened"
    step: ClassVar[str] = "awaken"

    adapter: str
    version: str
    alias: str
    previous: str | None = None
    probes: int
