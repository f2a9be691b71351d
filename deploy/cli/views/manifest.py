"""A manifest as a person reads it."""

from __future__ import annotations

from collections import Counter
from typing import Any
from xml.sax.saxutils import escape

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

BAR = 30
FILES = {"train": "to train on", "dev": "to watch training by", "pairs": "preference pairs", "labels": "thumbs"}


def view(digest: str, values: dict[str, Any]) -> RenderableType:
    statistics = values["statistics"]
    parts: list[RenderableType] = [_facts(digest, values), *_bars("left out, by reason", values["excluded"])]
    parts += _bars("lengths of training rows, in tokens up to", statistics["lengths"].get("train", {}))
    parts += _bars("sources", statistics["sources"])
    parts += _bars("kinds", statistics["kinds"]) if len(statistics["kinds"]) > 1 else []
    parts += _bars("redacted", statistics["redacted"])
    parts += _bars("found in what was quarantined", statistics["quarantined"])
    parts += _bars("most from one session", statistics["concentration"]["session"])
    return Group(*parts)


def _facts(digest: str, values: dict[str, Any]) -> Table:
    statistics = values["statistics"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("manifest", digest)
    table.add_row("holdout", values["holdout"])
    table.add_row("persona", values["persona"])
    table.add_row("mark", statistics["mark"].get("created_at", "no karma"))
    table.add_row(
        "records", f"{values['seen']} seen, {values['used']} used, {sum(values['excluded'].values())} left out"
    )
    rows = rows_of(values)
    table.add_row("rows", ", ".join(f"{rows[file]} {said}" for file, said in FILES.items() if rows[file]))
    table.add_row("tokens", f"about {statistics['tokens'].get('train', 0):,} to train on")
    if prompts := statistics["prompts"]:
        table.add_row("prompts", ", ".join(f"{count} {form}" for form, count in prompts.items()))
    return table


def rows_of(values: dict[str, Any]) -> Counter[str]:
    """Rows by kind of file."""
    rows: Counter[str] = Counter()
    for name, file in values["files"].items():
        rows[name.split("/")[0]] += file["rows"]
    return rows


def in_order(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Lengths by size, everything else by how often."""
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
    for name, count in in_order(counts):
        table.add_row(Text(name), str(count), Text("█" * max(1, round(BAR * count / most)), "cyan"))
    return [Text(""), Text(title, "bold"), table]


WIDTH, PANEL, NAME, BAR_PX, LINE, TOP = 1080, 340, 130, 140, 22, 96
SHOWN = 14
INK, DIM, PAPER = "#24292f", "#6e7781", "#ffffff"


def draw(digest: str, values: dict[str, Any]) -> str:
    statistics = values["statistics"]
    panels = (
        ("Length of training rows (tokens up to)", statistics["lengths"].get("train", {}), "#0969da"),
        ("Sources of training rows", statistics["sources"], "#1a7f37"),
        (f"Left out: {sum(values['excluded'].values())} of {values['seen']}", values["excluded"], "#cf222e"),
    )
    height = TOP + LINE * max(3, *(min(len(counts), SHOWN) + 2 for _, counts, _ in panels))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            'font-family="system-ui, sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
            _text(24, 34, f"{values['persona']}: {values['used']} of {values['seen']} records used", INK, "bold 18px"),
            _text(24, 56, digest, DIM, "12px"),
            *(line for place, panel in enumerate(panels) for line in _panel(24 + place * (PANEL + 12), *panel)),
            "</svg>",
            "",
        ]
    )


def _panel(x: int, title: str, counts: dict[str, int], colour: str) -> list[str]:
    lines = [_text(x, TOP, title, INK, "bold 14px")]
    if not counts:
        return [*lines, _text(x, TOP + LINE + 6, "none", DIM)]
    most = max(counts.values())
    for place, (name, count) in enumerate(in_order(counts)[:SHOWN]):
        y = TOP + 6 + LINE * (place + 1)
        width = max(1.0, BAR_PX * count / most)
        lines += [
            _text(x, y, _cut(name), INK),
            f'<rect x="{x + NAME}" y="{y - 11}" width="{width:.1f}" height="14" rx="2" fill="{colour}"/>',
            _text(x + NAME + round(width) + 6, y, f"{count:,}", DIM),
        ]
    if len(counts) > SHOWN:
        lines.append(_text(x, TOP + 6 + LINE * (SHOWN + 1), f"and {len(counts) - SHOWN} more", DIM))
    return lines


def _cut(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def _text(x: int, y: int, said: str, colour: str, font: str = "") -> str:
    style = ""
    if font:
        weight, _, size = font.rpartition(" ")
        style = f' font-size="{size}"' + (f' font-weight="{weight}"' if weight else "")
    return f'<text x="{x}" y="{y}" fill="{colour}"{style}>{escape(said)}</text>'
