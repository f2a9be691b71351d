"""Spans for Phoenix, exported from the ledger: after a crash they are exported later; one sent twice is one span.

Each service exports the facts it recorded; the one that opens rituals also exports the root span at their end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from shared.contracts.job import JobSpan, isolation_text
from shared.contracts.ritual import FACTS, State
from shared.ritual import trace
from shared.runtime.loops import Loop

if TYPE_CHECKING:
    from shared.runtime.context import ServiceContext
    from shared.storage.postgres import Pool

log = structlog.get_logger()

PROJECT = "soulforge"
BATCH = 32
EXPORT_TIMEOUT_S = 5
EXPORT_POLL_S = 1.0

# The job behind a stage, by the subject of the fact that reports it.
JOBS = {fact.subject: fact.job for fact in FACTS if fact.job}
UNHAPPY = frozenset({State.REFUSED, State.FAILED})


def open_exporter(phoenix_url: str) -> OTLPSpanExporter:
    return OTLPSpanExporter(endpoint=f"{phoenix_url}/v1/traces", timeout=EXPORT_TIMEOUT_S)


def root_export_loop(context: ServiceContext) -> Loop:
    """The loop that exports root spans; it runs in the service that opens rituals."""
    exporter = open_exporter(context.settings.phoenix_url)

    async def export() -> float | None:
        return 0.0 if await export_roots(context.pool, exporter) else None

    return Loop("export-roots", export, EXPORT_POLL_S)


def fact_export_loop(context: ServiceContext) -> Loop:
    """The loop that exports the spans of the facts which this service recorded."""
    exporter = open_exporter(context.settings.phoenix_url)

    async def export() -> float | None:
        return 0.0 if await export_facts(context.pool, exporter, context.service) else None

    return Loop("export-facts", export, EXPORT_POLL_S)


async def export_facts(pool: Pool, exporter: OTLPSpanExporter, service: str) -> int:
    """Export the spans of this service's facts that are not exported yet. Returns how many facts; 0 when Phoenix is down."""
    rows = await pool.fetch(
        "SELECT f.*, r.persona, r.trace_id FROM ritual_fact f JOIN ritual r ON r.id = f.ritual "
        "WHERE f.owner = $1 AND f.exported_at IS NULL ORDER BY f.stated_at LIMIT $2",
        service,
        BATCH,
    )
    if not rows or not await _export(exporter, [(row["event_id"], partial(fact_spans, row)) for row in rows]):
        return 0
    await pool.execute(
        "UPDATE ritual_fact SET exported_at = clock_timestamp() WHERE event_id = ANY ($1)",
        [row["event_id"] for row in rows],
    )
    return len(rows)


async def export_roots(pool: Pool, exporter: OTLPSpanExporter) -> int:
    """Export the root span of every ritual that ended and holds no anvil."""
    rows = await pool.fetch(
        "SELECT r.*, (SELECT max(stated_at) FROM ritual_fact f WHERE f.ritual = r.id) AS last_fact_at FROM ritual r "
        "WHERE ended_at IS NOT NULL AND root_exported_at IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.ritual = r.id) ORDER BY ended_at LIMIT $1",
        BATCH,
    )
    if not rows or not await _export(exporter, [(row["id"], partial(_root_spans, row)) for row in rows]):
        return 0
    await pool.execute(
        "UPDATE ritual SET root_exported_at = clock_timestamp() WHERE id = ANY ($1)", [row["id"] for row in rows]
    )
    return len(rows)


def _root_spans(row: Any) -> list[ReadableSpan]:
    return [root_span(row)]


def root_span(row: Any) -> ReadableSpan:
    return _span(
        f"ritual {row['persona']}",
        row["trace_id"],
        trace.root_span_id(row["id"]),
        row["parent_span_id"],
        _ns(row["created_at"]),
        _ns(row["last_fact_at"] or row["ended_at"]),
        {
            "openinference.span.kind": "CHAIN",
            "soulforge.ritual": str(row["id"]),
            "soulforge.persona": row["persona"],
            "soulforge.state": row["state"],
            "soulforge.attempts": row["attempt"],
            "input.value": f"train {row['persona']}",
            "output.value": row["state"],
        },
        failed=row["state"] in UNHAPPY,
    )


def fact_spans(row: Any) -> list[ReadableSpan]:
    """The span of a stage and, below it, the spans of its steps or its job's."""
    own = trace.fact_span_id(row["event_id"])
    body = row["body"]
    attributes = {
        "openinference.span.kind": "CHAIN",
        "soulforge.service": row["owner"],
        "soulforge.ritual": str(row["ritual"]),
        "soulforge.persona": row["persona"],
        "soulforge.fact": row["subject"],
        "soulforge.attempt": row["attempt"],
        **{f"soulforge.{key}": value for key, value in body.items() if isinstance(value, str | int | float | bool)},
        **_isolation(body),
    }
    spans = [
        _span(
            f"{row['owner']}.{row['step']}",
            row["trace_id"],
            own,
            trace.root_span_id(row["ritual"]),
            _ns(row["started_at"]),
            _ns(row["stated_at"]),
            attributes,
            failed=row["state_after"] in UNHAPPY and row["state_before"] != row["state_after"],
        )
    ]
    return spans + _step_spans(row, own)


def _isolation(body: dict[str, Any]) -> dict[str, AttributeValue]:
    """The isolation of the job that a fact is about."""
    return {"soulforge.job.isolation": isolation_text(found)} if (found := body.get("isolation")) else {}


def _step_spans(row: Any, own: str) -> list[ReadableSpan]:
    """Spans of steps, below the span of their job where there is one, else below the stage."""
    steps = [JobSpan.model_validate(step) for step in row["body"].get("spans", [])]
    if not steps:
        return []
    job = JOBS.get(row["subject"])
    attributes: dict[str, AttributeValue] = {
        "openinference.span.kind": "CHAIN",
        "soulforge.service": job or row["owner"],
        "soulforge.ritual": str(row["ritual"]),
    }
    whole, parent = [], own
    if job:
        parent = trace.job_span_id(row["event_id"], 0)
        begin, end = min(step.start_ns for step in steps), max(step.end_ns for step in steps)
        whole = [_span(job, row["trace_id"], parent, own, begin, end, {**attributes, **_isolation(row["body"])})]
    return whole + [
        _span(
            f"{job or row['owner']}.{step.name}",
            row["trace_id"],
            trace.job_span_id(row["event_id"], place),
            parent,
            step.start_ns,
            step.end_ns,
            {**attributes, **step.attributes},
        )
        for place, step in enumerate(steps, start=1)
    ]


def _span(
    name: str,
    trace_id: str,
    span_id: str,
    parent_id: str | None,
    start_ns: int,
    end_ns: int,
    attributes: dict[str, AttributeValue],
    failed: bool = False,
) -> ReadableSpan:
    return ReadableSpan(
        name=name,
        context=_context(trace_id, span_id),
        parent=_context(trace_id, parent_id) if parent_id else None,
        resource=Resource(
            {
                "service.name": str(attributes.get("soulforge.service", "soulforge")),
                "openinference.project.name": PROJECT,
            }
        ),
        attributes=attributes,
        kind=SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR if failed else StatusCode.OK),
        start_time=start_ns,
        end_time=max(end_ns, start_ns),
    )


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)


async def _export(exporter: OTLPSpanExporter, items: list[tuple[UUID, Callable[[], list[ReadableSpan]]]]) -> bool:
    """Export the spans of every item; False when Phoenix does not take them now.

    An item that cannot be shown as spans is left out: none may keep the others from their trace.
    """
    taken = True
    for item, make in items:
        try:
            taken = taken and await asyncio.to_thread(exporter.export, make()) is SpanExportResult.SUCCESS
        except Exception:
            log.exception("left out of the trace: it cannot be shown as spans", item=str(item))
    return taken
