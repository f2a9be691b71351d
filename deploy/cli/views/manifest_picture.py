"""A manifest as a picture: lengths, sources and exclusions side by side, as SVG that any browser shows."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from deploy.cli.views.manifest import in_order

WIDTH, PANEL, NAME, BAR, LINE, TOP = 1080, 340, 130, 140, 22, 96
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
        width = max(1.0, BAR * count / most)
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
