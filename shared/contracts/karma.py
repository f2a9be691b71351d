"""Karma as it is exchanged: one remembered interaction a record, as `soulforge karma import` reads it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import AwareDatetime, Field, model_validator

from shared.contracts.checks import Check
from shared.contracts.frozen import Frozen

PERSONA_PATTERN = r"^[a-z][a-z0-9_-]{0,40}$"


class Status(StrEnum):
    """How far a record's owner has vouched for it. Only white truths are ever trained."""

    SPECULATIVE = "speculative"  #: remembered, vouched for by nobody
    WHITE_TRUTH = "white_truth"  #: consecrated by its owner after its outcome was verified
    REVOKED = "revoked"  #: consent withdrawn; stays out for good


class ChatMessage(Frozen):
    """One message in OpenAI's chat form."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()


class Outcome(Frozen):
    """What the interaction led to, and how that is known."""

    verdict: str = "accepted"
    evidence: str = ""
    checks: tuple[Check, ...] = ()


class KarmaRecord(Frozen):
    """One remembered interaction of a persona, ending in the assistant's answer."""

    id: str = Field(min_length=1, max_length=200)
    persona: str = Field(pattern=PERSONA_PATTERN)
    messages: tuple[ChatMessage, ...]
    status: Status = Status.SPECULATIVE
    outcome: Outcome = Outcome()
    why: str = ""
    consecrated_by: str | None = None
    consecrated_at: AwareDatetime | None = None
    session: str = Field(min_length=1, max_length=200)
    parent: str | None = None
    source: str = "import"
    licence: str = "owner"
    trace_id: str | None = None
    created_at: datetime | None = None

    @model_validator(mode="after")
    def is_a_whole_interaction(self) -> KarmaRecord:
        if not self.messages or self.messages[-1].role != "assistant" or not self.messages[-1].content:
            raise ValueError("messages must end with an assistant message that has content")
        if not any(message.role == "user" for message in self.messages):
            raise ValueError("messages must contain a user message")
        if self.status is Status.WHITE_TRUTH and not self.consecrated_by:
            raise ValueError("a white_truth needs consecrated_by: who vouched for it")
        return self
