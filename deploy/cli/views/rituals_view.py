"""The newest rituals as a table, and below it why those that wait again were interrupted."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.cli.format import ago, duration, short
from deploy.cli.views.waiting import RESUMES, asked_for, shown_state, was_asked


def listing(rows: list[dict[str, Any]]) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)  # all of it stands in 80 columns
    table.add_column("ritual", no_wrap=True)
    table.add_column("persona", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("attempt", "priority", "intended", "took", "without inference"):
        table.add_column(name, justify="right", no_wrap=" " not in name)
    for row in rows:
        table.add_row(*_row(row))
    return Group(table, *(_interrupted(row) for row in rows if row["interruption"] is not None))


def coloured(state: str, ended: bool) -> str:
    colour = "green" if state == "awakened" else "red" if ended else "yellow"
    return f"[{colour}]{state}[/]"


def _row(row: dict[str, Any]) -> list[str]:
    took = ((row["ended_at"] or row["now"]) - row["created_at"]).total_seconds()
    return [
        short(row["id"]),
        row["persona"],
        coloured(shown_state(row), row["ended_at"] is not None),
        str(row["attempt"]),
        str(row["priority"]),
        ago(row["created_at"], row["now"]),
        duration(took) + ("" if row["ended_at"] else "…"),
        duration(row["seconds_without_inference"]),
    ]


def _interrupted(row: dict[str, Any]) -> Text:
    why = f"{asked_for(was_asked(row['interruption']))}: {row['interruption'].get('reason', '')}"
    return Text(f"{short(row['id'])} was interrupted, {why}; attempt {row['attempt']} {RESUMES}", "yellow")
