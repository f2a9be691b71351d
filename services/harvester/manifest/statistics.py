"""What a manifest states of its rows in numbers."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from typing import TYPE_CHECKING, Any

from services.harvester.manifest import store
from shared.contracts.harvest import SystemPrompt
from shared.storage.digests import digest_text

if TYPE_CHECKING:
    from services.harvester.manifest.store import Counts
    from services.harvester.manifest.write import ManifestWriter
    from services.harvester.split import Split
    from shared.storage.postgres import Connection

TOP = 10


async def collect_statistics(conn: Connection, counts: Counts, writer: ManifestWriter) -> dict[str, Any]:
    """The `statistics` of manifest.json, when all rows are written."""
    lengths = await store.count_lengths(conn)
    return {
        "lengths": _lengths(lengths),
        "tokens": count_tokens(lengths),
        "prompts": writer.prompt_forms,
        "system_prompts": [prompt.model_dump() for prompt in list_prompts(writer.system_prompts)],
        "stated": writer.stated,
        "consecrated_by": _top(writer.consecrated_by),
        "sources": _top(await store.count_by(conn, "source")),
        "kinds": _top(await store.count_by(conn, "kind")),
        "redacted": await store.count_found(conn, quarantined=False),
        "quarantined": await store.count_found(conn, quarantined=True),
        "contradictions": await store.count_contradictions(conn),
        "concentration": {
            "session": await store.count_largest(conn, "session"),
            "source": await store.count_largest(conn, "source"),
        },
        "mark": {"created_at": counts.mark.astimezone(UTC).isoformat()} if counts.mark else {},
    }


def count_tokens(lengths: list[tuple[Split, int, int]]) -> Counter[str]:
    """Tokens of each side."""
    tokens: Counter[str] = Counter()
    for side, length, records in lengths:
        tokens[str(side)] += length * records
    return tokens


def list_prompts(counted: dict[str, Counter[str]]) -> list[SystemPrompt]:
    """The system prompts of most rows, with their texts; at most TOP."""
    ranked = sorted(counted.items(), key=lambda entry: (-entry[1].total(), entry[0]))
    return [SystemPrompt(digest=digest_text(text), text=text, rows=dict(rows)) for text, rows in ranked[:TOP]]


def _lengths(lengths: list[tuple[Split, int, int]]) -> dict[str, Counter[str]]:
    classes: dict[str, Counter[str]] = {}
    for side, length, records in lengths:
        classes.setdefault(str(side), Counter())[str(length_class(length))] += records
    return classes


def length_class(tokens: int) -> int:
    """The power of two, or one and a half times one, that a length in tokens does not exceed."""
    power = 1 << max(tokens - 1, 0).bit_length()
    middle = power * 3 // 4
    return middle if tokens <= middle else power


def _top(counts: dict[str, int]) -> dict[str, int]:
    """The largest, and the rest in one sum."""
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    rest = sum(count for _, count in ranked[TOP:])
    return dict(ranked[:TOP]) | ({"(others)": rest} if rest else {})
