"""What every persona remembers, and how near its new karma is to a ritual of its own, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from services.harvester.views import PersonaCounts, TriggerDecision

BAR = 20


@dataclass(frozen=True)
class KarmaCounts:
    """Counts per persona, and what the automatic trigger decides about each that has a white truth."""

    rows: list[PersonaCounts]
    decisions: dict[str, TriggerDecision]
    enabled: bool


def counts_table(found: KarmaCounts) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("persona")
    for name in ("records", "white truths", "speculative", "rejected", "revoked", "corrections", "sessions", "newest"):
        table.add_column(name, justify="right")
    for row in found.rows:
        by_status = row.records, row.white_truths, row.speculative, row.rejected, row.revoked
        counts = (str(count) for count in (*by_status, row.corrections, row.sessions))
        table.add_row(row.persona, *counts, f"{row.newest:%Y-%m-%d}")
    return table


def weights_table(found: KarmaCounts) -> Table:
    """How heavy each persona's new karma is, as a bar up to its threshold, and why."""
    table = Table(box=None, pad_edge=False)
    table.add_column("automatic trigger")
    table.add_column("", no_wrap=True)
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("why", overflow="fold")
    for persona, decision in found.decisions.items():
        weight = f"{decision.weight:.0f}/{decision.threshold:.0f}"
        share = decision.weight / decision.threshold
        table.add_row(persona, bar(share), weight, _state(decision, found.enabled), decision.why)
    return table


def _state(decision: TriggerDecision, enabled: bool) -> str:
    if not enabled:
        return "off"
    return "fires now" if decision.fire else "armed" if decision.armed else "disarmed"


def bar(share: float, width: int = BAR) -> str:
    """A bar of `width` characters; full only where the share is 1 or more."""
    full = int(min(max(share, 0.0), 1.0) * width)
    return "█" * full + "░" * (width - full)
