"""The spans of one trace, as much of them as a golden path needs, and the place of each in the tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

LLM = "LLM"
UNKNOWN = "UNKNOWN"  # what Phoenix calls a span without a kind of OpenInference
# Below one of these a model call works for somebody else than the root.
OWNERS = frozenset({"AGENT", "TOOL", LLM})


class NoPathError(Exception):
    """No golden path can be rebuilt; the message has the reason and holds nothing of the trace's content."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened during a span: an exception, or a message as older conventions record it."""

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """One span; `attributes` by their dotted names (`llm.input_messages.0.message.role`)."""

    id: str
    parent: str | None
    name: str
    kind: str  #: in OpenInference's words: LLM, TOOL, AGENT, CHAIN, ...
    status: str  #: OK, ERROR or UNSET
    started_at: datetime
    ended_at: datetime
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    @property
    def failed(self) -> bool:
        """Some instrumentations record the exception and leave the status unset."""
        raised = any(event.name == "exception" for event in self.events)
        return self.status == "ERROR" or (raised and self.status != "OK")


OPERATIONS = {
    "chat": LLM,
    "text_completion": LLM,
    "generate_content": LLM,
    "execute_tool": "TOOL",
    "invoke_agent": "AGENT",
    "create_agent": "AGENT",
}  # gen_ai.operation.name
REQUESTS = {"chat": LLM, "completion": LLM}  # llm.request.type
ENTITIES = {"tool": "TOOL", "agent": "AGENT"}  # traceloop.span.kind


def kind_of(kind: str, attributes: Mapping[str, Any]) -> str:
    """The kind of a span: as it is recorded, else as the other conventions name it."""
    if kind != UNKNOWN:
        return kind
    named = (
        OPERATIONS.get(str(attributes.get("gen_ai.operation.name"))),
        REQUESTS.get(str(attributes.get("llm.request.type"))),
        ENTITIES.get(str(attributes.get("traceloop.span.kind"))),
    )
    return next(filter(None, named), UNKNOWN)


class Trace:
    """All spans of one trace, in the order in which they started."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.spans = sorted(spans, key=lambda span: (span.started_at, span.ended_at, span.id))
        self._by_id = {span.id: span for span in self.spans}

    @cached_property
    def models(self) -> list[Span]:
        """The model calls that succeeded; where two instrumentations saw one call, only the outer one."""
        return [span for span in self.model_calls if not span.failed]

    @cached_property
    def model_calls(self) -> list[Span]:
        return [span for span in self.spans if span.kind == LLM and not any(up.kind == LLM for up in self.above(span))]

    @cached_property
    def roots(self) -> list[Span]:
        return [span for span in self.spans if span.parent not in self._by_id]

    @property
    def whole(self) -> bool:
        """Whether every span's parent is here: parents end last, so a trace in the making lacks them."""
        return all(span.parent is None for span in self.roots)

    def above(self, span: Span) -> Iterator[Span]:
        """Its parent, its parent's parent, and so on; ends at a circle."""
        seen = {span.id}
        while (parent := self._by_id.get(span.parent or "")) and parent.id not in seen:
            seen.add(parent.id)
            yield parent
            span = parent

    def owner(self, span: Span) -> str | None:
        """The agent or tool it works for."""
        return next((up.id for up in self.above(span) if up.kind in OWNERS), None)

    def depth(self, span: Span) -> int:
        """How many agents and tools it works for."""
        return sum(up.kind in OWNERS for up in self.above(span))
