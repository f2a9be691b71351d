"""How anvils and their runes stand, in words: from the ledger's row of an anvil and what was seen of a rune. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.cli.format import duration, short_id

Row = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One part: whether it can do its job, and why not or what it does."""

    part: str
    well: bool
    text: str


@dataclass(frozen=True)
class Seen:
    """A rune as it answered. `closed` says why its admission is closed; None while it is open, or has none."""

    answers: bool
    models: tuple[str, ...] = ()
    closed: str | None = None


def anvil_finding(part: str, name: str, row: Row) -> Finding:
    """Free, held or contained; `row` is of queries.anvils.get_anvil."""
    if row["contained"] is not None:
        return Finding(part, False, _contained(name, row))
    if row["ritual"] is None:
        return Finding(part, True, f"{name} is free{wanted_back(row)}")
    if row["live"]:
        return Finding(part, True, f"{name} is held by {_holder(row)}{wanted_back(row)}")
    return Finding(part, False, f"{name}: the lease of {_holder(row)} expired; the orchestrator takes it back")


def rune_finding(part: str, where: str, seen: Seen, anvil: str, row: Row | None) -> Finding:
    """What a rune serves, or why it does not; `row` is of its anvil, None where the ledger is away."""
    holder = short_id(row["ritual"]) if row and row["ritual"] else None
    if holder and (not seen.answers or seen.closed):
        # That is what the rune is meant to be then.
        note = f" (admits nobody: {seen.closed})" if seen.closed else ""
        return Finding(part, True, f"suspended while ritual {holder} holds {anvil}{note}")
    returns = "; the orchestrator brings it back" if row and row["open_fence"] and not holder else ""
    if not seen.answers:
        return Finding(part, False, f"does not answer at {where}{returns}")
    if seen.closed:
        return Finding(part, False, f"answers, but admits nobody: {seen.closed}{returns}")
    return Finding(part, True, f"serves {', '.join(seen.models)}" if seen.models else f"answers at {where}")


def wanted_back(row: Row) -> str:
    """Until when no ritual takes the anvil, because somebody reclaimed it."""
    if row["reclaimed_until"] is None:
        return ""
    why = f" ({row['reclaim_why']})" if row["reclaim_why"] else ""
    return f"; wanted back{why}: no ritual takes it until {row['reclaimed_until'].astimezone():%Y-%m-%d %H:%M:%S}"


def _contained(name: str, row: Row) -> str:
    count = f"{row['failures']} failure{'' if row['failures'] == 1 else 's'}"
    said = f"{name} is contained for {duration((row['now'] - row['since']).total_seconds())}, after {count}: {row['contained']}"
    if row["until_accepted"]:
        end = f"it serves: where that is well, say so with `soulforge accept {name}`"
    else:
        end = "no ritual takes it until it serves again"
    return f"{said.rstrip('.')}; {end}{wanted_back(row)}"


def _holder(row: Row) -> str:
    return f"ritual {short_id(row['ritual'])} ({row['persona']}), attempt {row['attempt']}, fence {row['fence']}"
