"""Ids of the one trace of a ritual: span ids are derived from facts, so that a span can be written again after a crash.

The root span is the ritual; each fact is a child with the duration of its stage; a job's steps are children of that.
"""

from __future__ import annotations

import hashlib
import re
from uuid import UUID

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def begin(ritual: UUID, traceparent: str | None) -> tuple[str, str | None]:
    """(trace id, parent span id) of a new ritual: inside the publisher's trace where the intent carries one (W3C)."""
    if (
        traceparent
        and (match := TRACEPARENT.fullmatch(traceparent.strip()))
        and int(match[1], 16)
        and int(match[2], 16)
    ):
        return match[1], match[2]
    return ritual.hex, None


def root_span_id(ritual: UUID) -> str:
    return _span_id(f"{ritual}/root")


def fact_span_id(event_id: UUID) -> str:
    return _span_id(f"{event_id}/fact")


def job_span_id(event_id: UUID, place: int) -> str:
    return _span_id(f"{event_id}/job/{place}")


def parent(trace_id: str, span_id: str) -> str:
    """A W3C traceparent header."""
    return f"00-{trace_id}-{span_id}-01"


def _span_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]
