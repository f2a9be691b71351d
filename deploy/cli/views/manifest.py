"""A dataset manifest as tables, and as a picture (SVG) that any browser shows."""

from __future__ import annotations

from collections import Counter
from xml.sax.saxutils import escape

from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shared.contracts.harvest import SystemPrompt
from shared.contracts.visible import visible

BAR_CELLS = 30
FILES = {
    "train": "to train on",
    "dev": "to watch training by",
    "pairs": "preference pairs",
    "dev_pairs": "pairs to watch training by",
    "labels": "thumbs",
}

# Measures of the picture in pixels.
WIDTH_PX, PANEL_PX, NAME_PX, BAR_PX, LINE_PX, TOP_PX = 1080, 340, 130, 140, 22, 96
SHOWN = 14
LONGEST_NAME = 18
INK, DIM, PAPER = "#24292f", "#6e7781", "#ffffff"


class Statistics(BaseModel):
    """What a manifest counts of its rows; every field is value -> count, some by kind of file."""

    model_config = ConfigDict(frozen=True)

    lengths: dict[str, dict[str, int]]
    tokens: dict[str, int]
    prompts: dict[str, int]
    system_prompts: tuple[SystemPrompt, ...] = ()
    stated: dict[str, int]
    consecrated_by: dict[str, int]
    sources: dict[str, int]
    kinds: dict[str, int]
    redacted: dict[str, int]
    quarantined: dict[str, int]
    concentration: dict[str, dict[str, int]]
    contradictions: int
    mark: dict[str, str]


class DataFile(BaseModel):
    """One data file of a manifest."""

    model_config = ConfigDict(frozen=True)

    rows: int


class ManifestFile(BaseModel):
    """The part of a manifest's file that is shown."""

    model_config = ConfigDict(frozen=True)

    persona: str
    holdout: str
    seen: int
    used: int
    excluded: dict[str, int]
    files: dict[str, DataFile]
    statistics: Statistics


def manifest_view(digest: str, manifest: ManifestFile) -> RenderableType:
    counted = manifest.statistics
    parts: list[RenderableType] = [_summary(digest, manifest), *_bars("left out, by reason", manifest.excluded)]
    parts += _bars("lengths of training rows, in tokens up to", counted.lengths.get("train", {}))
    parts += _bars("sources", counted.sources)
    parts += _bars("kinds", counted.kinds) if len(counted.kinds) > 1 else []
    parts += _bars("redacted", counted.redacted)
    parts += _bars("found in what was quarantined", counted.quarantined)
    parts += _bars("most from one session", counted.concentration["session"])
    return Group(*parts)


def _summary(digest: str, manifest: ManifestFile) -> Table:
    counted = manifest.statistics
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("manifest", digest)
    table.add_row("holdout", manifest.holdout)
    table.add_row("persona", manifest.persona)
    table.add_row("mark", counted.mark.get("created_at", "no karma"))
    left_out = sum(manifest.excluded.values())
    table.add_row("records", f"{manifest.seen} seen, {manifest.used} used, {left_out} left out")
    rows = rows_by_kind(manifest)
    table.add_row("rows", ", ".join(f"{rows[file]} {text}" for file, text in FILES.items() if rows[file]))
    if counted.contradictions:
        table.add_row("contradictions", f"{counted.contradictions} pairs of records, left out of preferences")
    table.add_row("tokens", f"about {counted.tokens.get('train', 0):,} to train on")
    if counted.prompts:
        table.add_row("prompts", ", ".join(f"{count} {form}" for form, count in counted.prompts.items()))
    stated = counted.stated
    table.add_row(
        "reasons", f"{stated.get('why', 0)} state why, {stated.get('evidence', 0)} have evidence of their outcome"
    )
    vouched = sort_counts(counted.consecrated_by)
    table.add_row(
        "vouched for by", Text(", ".join(f"{who or 'unnamed'} ({count})" for who, count in vouched) or "no one")
    )
    return table


def rows_by_kind(manifest: ManifestFile) -> Counter[str]:
    """Rows by kind of file."""
    rows: Counter[str] = Counter()
    for name, file in manifest.files.items():
        rows[name.split("/")[0]] += file.rows
    return rows


def sort_counts(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Sort lengths by size, everything else by how often."""
    if all(name.isdecimal() for name in counts):
        return sorted(counts.items(), key=lambda entry: int(entry[0]))
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _bars(title: str, counts: dict[str, int]) -> list[RenderableType]:
    """A headed list of bars; nothing where there is nothing to count."""
    if not counts:
        return []
    table = Table.grid(padding=(0, 1))
    table.add_column(overflow="fold", max_width=40)
    table.add_column(justify="right")
    table.add_column()
    most = max(counts.values())
    for name, count in sort_counts(counts):
        table.add_row(Text(name), str(count), Text("█" * max(1, round(BAR_CELLS * count / most)), "cyan"))
    return [Text(""), Text(title, "bold"), table]


def draw(digest: str, manifest: ManifestFile) -> str:
    """Draw lengths, sources and exclusions side by side."""
    left_out = f"Left out: {sum(manifest.excluded.values())} of {manifest.seen}"
    panels = (
        ("Length of training rows (tokens up to)", manifest.statistics.lengths.get("train", {}), "#0969da"),
        ("Sources of training rows", manifest.statistics.sources, "#1a7f37"),
        (left_out, manifest.excluded, "#cf222e"),
    )
    height = TOP_PX + LINE_PX * max(3, *(min(len(counts), SHOWN) + 2 for _, counts, _ in panels))
    title = f"{manifest.persona}: {manifest.used} of {manifest.seen} records used"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{height}" '
            f'viewBox="0 0 {WIDTH_PX} {height}" font-family="system-ui, sans-serif" font-size="13">',
            f'<rect width="{WIDTH_PX}" height="{height}" fill="{PAPER}"/>',
            _text(24, 34, title, INK, "bold 18px"),
            _text(24, 56, digest, DIM, "12px"),
            *(line for at, panel in enumerate(panels) for line in _panel(24 + at * (PANEL_PX + 12), *panel)),
            "</svg>",
            "",
        ]
    )


def _panel(x: int, title: str, counts: dict[str, int], colour: str) -> list[str]:
    lines = [_text(x, TOP_PX, title, INK, "bold 14px")]
    if not counts:
        return [*lines, _text(x, TOP_PX + LINE_PX + 6, "none", DIM)]
    most = max(counts.values())
    for at, (name, count) in enumerate(sort_counts(counts)[:SHOWN], start=1):
        y = TOP_PX + 6 + LINE_PX * at
        width = max(1.0, BAR_PX * count / most)
        lines += [
            _text(x, y, name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…", INK),
            f'<rect x="{x + NAME_PX}" y="{y - 11}" width="{width:.1f}" height="14" rx="2" fill="{colour}"/>',
            _text(x + NAME_PX + round(width) + 6, y, f"{count:,}", DIM),
        ]
    if len(counts) > SHOWN:
        lines.append(_text(x, TOP_PX + 6 + LINE_PX * (SHOWN + 1), f"and {len(counts) - SHOWN} more", DIM))
    return lines


def _text(x: int, y: int, text: str, colour: str, font: str = "") -> str:
    weight, _, size = font.rpartition(" ")
    style = (f' font-size="{size}"' if size else "") + (f' font-weight="{weight}"' if weight else "")
    return f'<text x="{x}" y="{y}" fill="{colour}"{style}>{escape(visible(text))}</text>'
