"""Karma records as they are exchanged: one interaction per record; and the messages about records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field, model_validator

from shared.contracts.checks import Checks
from shared.contracts.frozen import Frozen, Storable
from shared.contracts.message import Message
from shared.contracts.moment import Moment, MomentOrUtc

PERSONA_PATTERN = r"^[a-z][a-z0-9_-]{0,40}$"
LARGEST_RECORD = 1024**2  #: bytes of all that one record holds, in a file, on the bus, and as the table checks it


class Status(StrEnum):
    """How far a record's owner has vouched for it. Only white truths are ever trained."""

    SPECULATIVE = "speculative"  #: stored, not vouched for
    WHITE_TRUTH = "white_truth"  #: consecrated by its owner after its outcome was verified
    REJECTED = "rejected"  #: not to be trained; it can be consecrated by name
    REVOKED = "revoked"  #: consent withdrawn; never trained on again


class ChatMessage(Frozen):
    """One message in OpenAI's chat form."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    weight: Literal[0, 1] | None = Field(
        None, description="Of what the assistant wrote: 0 is never trained, 1 always; default: by the rule of training."
    )


def fault(messages: Sequence[ChatMessage]) -> str | None:
    """Why messages are not a complete interaction; None where they are. One may end in calls of tools, without results."""
    if not messages or messages[-1].role != "assistant" or not (messages[-1].content or messages[-1].tool_calls):
        return "messages must end with an assistant message that has content or calls a tool"
    if wrong := next(filter(None, map(call_fault, messages[-1].tool_calls)), None):
        return f"the last message calls a tool: {wrong}"
    if messages[-1].weight == 0:
        return "the last message has the weight 0: end the record at the answer or the call that is to be trained"
    if not any(message.role == "user" for message in messages):
        return "messages must contain a user message"
    return None


def call_fault(call: Mapping[str, Any]) -> str | None:
    """Why this is no tool call in OpenAI's form; None where it is one."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        return "no function name"
    if not isinstance(arguments := function.get("arguments"), str):
        return "arguments are not text: OpenAI's format has them as JSON in a text"
    return None if _is_object(arguments) else "arguments are not a JSON object"


def _is_object(text: str) -> bool:
    """Whether a text is a JSON object; engines write none at all for a call without arguments."""
    try:
        return text == "" or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def trained_turns(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Indices of the trained messages: the last one; with tool calls every assistant's turn, which led to it.

    Earlier answers of a plain chat are not trained: they may not have been verified. A weight of the owner's goes first.
    """
    calls, last = any(message.get("tool_calls") for message in messages), len(messages) - 1
    weights = {at: message.get("weight") for at, message in enumerate(messages) if message["role"] == "assistant"}
    return [at for at, weight in weights.items() if weight == 1 or (weight is None and (calls or at == last))]


class Outcome(Frozen):
    """What the interaction led to, and how that is known."""

    verdict: str = "accepted"
    evidence: str = ""
    checks: Checks = Field((), description="Rules that an acceptable answer satisfies.")


class KarmaRecord(Storable):
    """One stored interaction of a persona, ending in the assistant's answer, or in its call of tools."""

    id: str = Field(min_length=1, max_length=200)
    persona: str = Field(pattern=PERSONA_PATTERN)
    messages: tuple[ChatMessage, ...]
    status: Status = Status.SPECULATIVE
    outcome: Outcome = Outcome()
    why: str = ""
    consecrated_by: str | None = None
    consecrated_at: Moment | None = None
    session: str = Field(min_length=1, max_length=200)
    parent: str | None = None
    source: str = "import"
    licence: str = "owner"
    kind: str = Field("interaction", min_length=1, max_length=60, description="What sort of interaction it was.")
    tools: tuple[dict[str, Any], ...] = Field((), description="Tools the assistant could call, in OpenAI's form.")
    purposes: tuple[str, ...] = Field(("train",), description="What its owner consents to; training needs `train`.")
    feedback: Literal["up", "down"] | None = Field(None, description="The user's thumb, where one was given.")
    trace_id: str | None = None
    created_at: MomentOrUtc | None = None

    @model_validator(mode="after")
    def is_a_whole_interaction(self) -> KarmaRecord:
        if wrong := fault(self.messages):
            raise ValueError(wrong)
        if self.status is Status.WHITE_TRUTH and not (self.consecrated_by or "").strip():
            raise ValueError("a white_truth needs consecrated_by: who vouched for it")
        return self


class KarmaRemembered(KarmaRecord, Message):
    """Store one speculative record. A record whose id is known, or was revoked, stays as it is."""

    subject: ClassVar[str] = "karma.remembered"

    status: Literal[Status.SPECULATIVE] = Status.SPECULATIVE
    consecrated_by: None = None
    consecrated_at: None = None


class KarmaConsecrated(KarmaRecord, Message):
    """Consecrate one record: a new record is stored, a speculative or rejected one becomes a white truth."""

    subject: ClassVar[str] = "karma.consecrated"

    status: Literal[Status.WHITE_TRUTH] = Status.WHITE_TRUTH


class KarmaRejected(Message):
    """Mark speculative records as not to be trained. Others are left as they are: a white truth is revoked."""

    subject: ClassVar[str] = "karma.rejected"

    karma: tuple[str, ...] = Field(min_length=1, max_length=10_000, description="Ids of the records.")
    by: str = Field(min_length=1, max_length=200, description="Who rejects them.")
    why: str = Field("", max_length=2000)


class KarmaRevoked(Message):
    """Withdraw consent to these records permanently."""

    subject: ClassVar[str] = "karma.revoked"

    karma: tuple[str, ...] = Field(min_length=1, max_length=10_000, description="Ids of the records.")
    by: str = Field(min_length=1, max_length=200, description="Who withdraws it.")
    why: str = Field("", max_length=2000)


class KarmaRecalled(Message):
    """The manifests that contain revoked records, and the rituals that trained on those manifests."""

    subject: ClassVar[str] = "karma.recalled"

    karma: tuple[str, ...]
    manifests: tuple[str, ...]
    rituals: tuple[UUID, ...]
