"""What a manifest says of its rows in numbers, summed over its segments. Whoever writes it sorts it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from typing import TYPE_CHECKING, Any

from services.harvester import store

if TYPE_CHECKING:
    from services.harvester.manifest.segments import KnownSegment
    from shared.storage.postgres import Pool

TOP = 10


async def counted(pool: Pool, table: str) -> dict[str, Any]:
    """What is counted over the decisions themselves."""
    return {
        "quarantined": await store.quarantined(pool, table),
        "concentration": await store.concentration(pool, table),
    }


def statistics(counts: dict[str, Any], segments: list[KnownSegment], stretches: list[dict[str, Any]]) -> dict[str, Any]:
    totals: dict[str, Counter[str]] = {}
    for segment in segments:
        for name, numbers in segment.statistics.items():
            totals.setdefault(name, Counter()).update(numbers)
    return counts | {
        "lengths": {name.removeprefix("lengths_"): c for name, c in totals.items() if "lengths_" in name},
        "tokens": totals.get("tokens", Counter()),
        "prompts": totals.get("prompts", Counter()),
        "sources": _top(totals.get("sources", Counter())),
        "kinds": _top(totals.get("kinds", Counter())),
        "redacted": totals.get("redacted", Counter()),
        "mark": {"created_at": stretches[-1]["last_at"].astimezone(UTC).isoformat()} if stretches else {},
    }


def _top(counts: Counter[str]) -> dict[str, int]:
    """The largest, and the rest in one sum."""
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    rest = sum(count for _, count in ranked[TOP:])
    return dict(ranked[:TOP]) | ({"(others)": rest} if rest else {})
