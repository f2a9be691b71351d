"""`soulforge karma stats`: what every persona remembers, and how far it is from a ritual of its own accord."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from deploy.cli.connect import database, load_settings, load_settings_of
from deploy.cli.console import out, print_note

if TYPE_CHECKING:
    from rich.table import Table

    from services.harvester.tipping.policy import Decision
    from shared.settings import Settings

BAR = 20


@dataclass(frozen=True)
class Statistics:
    """Counts per persona, and the decision of the tipping policy about each that has a white truth."""

    rows: list[dict[str, Any]]
    tipping: dict[str, Decision]
    enabled: bool


def register(group: typer.Typer) -> None:
    group.command()(stats)


def stats() -> None:
    """Count what every persona remembers.

    Below: what its new white truths weigh, and how far that is from the weight at which a ritual starts by itself.
    """
    import asyncio

    found = asyncio.run(_statistics(load_settings()))
    if not found.rows:
        out.print("no karma yet: `soulforge karma import FILE.jsonl`")
        return
    out.print(counts(found.rows))
    if found.tipping:
        out.print()
        out.print(scales(found))
        if not found.enabled:
            print_note("no ritual starts by itself: SOULFORGE_TIPPING_ENABLED=true, told to the harvester, turns it on")


def counts(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("persona")
    for name in ("records", "white truths", "speculative", "revoked", "corrections", "sessions", "newest"):
        table.add_column(name, justify="right")
    for row in rows:
        told = ("records", "white_truths", "speculative", "revoked", "corrections", "sessions")
        table.add_row(row["persona"], *(str(row[name]) for name in told), f"{row['newest']:%Y-%m-%d}")
    return table


def scales(found: Statistics) -> Table:
    """How heavy each persona's new karma is, as a bar up to its threshold, and why."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("tipping")
    table.add_column("", no_wrap=True)
    table.add_column("weight", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("why", overflow="fold")
    for persona, decision in found.tipping.items():
        state = (
            "off" if not found.enabled else "tips now" if decision.tip else "armed" if decision.armed else "disarmed"
        )
        weight = f"{decision.weight:.0f}/{decision.threshold:.0f}"
        table.add_row(persona, bar(decision.weight / decision.threshold), weight, state, decision.why)
    return table


def bar(share: float, width: int = BAR) -> str:
    """A bar of `width` characters; full only where the share is 1 or more."""
    full = int(min(max(share, 0.0), 1.0) * width)
    return "█" * full + "░" * (width - full)


async def _statistics(settings: Settings) -> Statistics:
    from datetime import UTC, datetime

    from services.harvester.store import statistics
    from services.harvester.tipping.policy import Scale, decide
    from services.harvester.tipping.scales import measure, read_scales
    from services.harvester.tipping.watch import TippingSettings

    policy = load_settings_of(TippingSettings)
    async with database(settings) as pool:
        rows = await statistics(pool)
        remembered = await read_scales(pool)
        now = datetime.now(UTC)
        tipping = {
            lying.persona: decide(lying, policy, remembered.get(lying.persona, Scale()), now)
            for lying in await measure(pool)
        }
    return Statistics(rows, tipping, policy.enabled)
