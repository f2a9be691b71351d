"""Stages 6 and 7, registration and awakening: a verified adapter becomes a version that serves. Recorded by the registry."""

from __future__ import annotations

from typing import ClassVar, Literal

from shared.contracts.message import Fact, Message

RecallAction = Literal["warn", "withdraw", "withdraw_and_retrain"]


class AdapterRegistered(Fact):
    """The bundle is frozen in the Crypt under its digest. The engine serves it under the name `version`."""

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


class AdapterTainted(Message):
    """A version was trained on records whose consent was withdrawn later; `action` is the policy that was applied."""

    subject: ClassVar[str] = "adapter.tainted"

    persona: str
    version: str
    karma: tuple[str, ...]
    action: RecallAction
    alias_withdrawn: bool
