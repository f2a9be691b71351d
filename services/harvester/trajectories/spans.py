"""The spans of one trace, as much of them as a golden path needs, and the place of each in the tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

LLM = "LLM"
# Below one of these a model call works for somebody else than the root.
OWNERS = frozenset({"AGENT", "TOOL", LLM})


class NoPathError(Exception):
    """No golden path can be rebuilt; the message has the reason and holds nothing of the trace's content."""


@dataclass(frozen=True, slots=True)
class Span:
    """One span; `attributes` by their dotted OpenInference names (`llm.input_messages.0.message.role`)."""

    id: str
    parent: str | None
    name: str
    kind: str  #: openinference.span.kind
    status: str  #: OK, ERROR or UNSET
    started_at: datetime
    ended_at: datetime
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.status == "ERROR"


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
