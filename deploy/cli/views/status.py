"""How the house stands, asked of every part at once: what a part does not answer is itself the finding."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from deploy.cli.connect import host_port
from deploy.cli.format import ago, duration, short_id
from deploy.cli.queries.runes import see
from deploy.cli.queries.stack import ask_bus, ask_ledger, ask_service, processes
from deploy.cli.views.stages import shown_state
from deploy.cli.views.standing_anvils import Finding, anvil_finding, rune_finding
from shared.configuration.file import ConfigurationError, load
from shared.settings import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from deploy.cli.views.standing_anvils import Row, Seen
    from shared.configuration.model import Configuration
    from shared.settings import Settings

NAME_WIDTH = 13


@dataclass(frozen=True)
class Standing:
    """Every part, and below them the runes and anvils."""

    findings: tuple[Finding, ...]
    processes: dict[str, dict[str, Any]]
    anvils: tuple[Finding, ...] = ()
    open_rituals: tuple[dict[str, Any], ...] = ()

    @property
    def well(self) -> bool:
        return all(finding.well for finding in (*self.findings, *self.anvils))


async def look(settings: Settings) -> Standing:
    """Ask every part."""
    configuration, wrong = _configuration(settings)
    anvils = tuple(configuration.anvils) if configuration else ()
    (ledger, nats, seen), services = await asyncio.gather(
        asyncio.gather(ask_ledger(settings, anvils), ask_bus(settings), _runes(settings, configuration)),
        asyncio.gather(*(ask_service(settings, name) for name in SERVICES)),
    )
    below = tuple(_anvils(settings, configuration, ledger.anvils, seen)) if configuration else ()
    return Standing((*wrong, ledger.finding, nats, *services), processes(settings), below, ledger.rituals)


def _configuration(settings: Settings) -> tuple[Configuration | None, tuple[Finding, ...]]:
    """What stands in the house; a file that cannot be used is a finding, and the other parts are still asked."""
    try:
        return load(settings), ()
    except ConfigurationError as error:
        return None, (Finding("configuration", False, str(error)),)


async def _runes(settings: Settings, configuration: Configuration | None) -> dict[str, Seen]:
    """Every rune of every anvil, asked at once."""
    if configuration is None:
        return {}
    runes = configuration.runes.items()
    seen = await asyncio.gather(*(see(configuration.rune_url(settings, name), config) for name, config in runes))
    return dict(zip(configuration.runes, seen, strict=True))


def _anvils(
    settings: Settings, configuration: Configuration, rows: dict[str, Row] | None, seen: dict[str, Seen]
) -> Iterator[Finding]:
    """Every anvil after its runes; where there is only one of a kind, it needs no name."""
    for anvil in configuration.anvils:
        row = rows[anvil] if rows else None
        for rune in configuration.runes_of(anvil):
            part = "rune" if len(configuration.runes) == 1 else f"rune {rune}"
            yield rune_finding(part, host_port(configuration.rune_url(settings, rune)), seen[rune], anvil, row)
        part = "anvil" if len(configuration.anvils) == 1 else f"anvil {anvil}"
        yield anvil_finding(part, anvil, row) if row else Finding(part, True, "unknown without the ledger")


def render(standing: Standing) -> RenderableType:
    width = max(NAME_WIDTH, *(len(finding.part) for finding in (*standing.findings, *standing.anvils)))
    parts: list[RenderableType] = [_parts(standing, width), _anvil_parts(standing, width)]
    if standing.open_rituals:
        parts += [Text(""), _rituals(standing.open_rituals)]
    return Group(*parts)


def _parts(standing: Standing, width: int) -> Table:
    table = _grid(width)
    table.add_column(style="dim", justify="right")
    for finding in standing.findings:
        table.add_row(*_finding(finding), _process(standing, finding.part))
    shown = {finding.part for finding in standing.findings}
    for name in standing.processes.keys() - shown:
        table.add_row(Text("·", "dim"), name, Text(standing.processes[name]["state"]), _process(standing, name))
    return table


def _anvil_parts(standing: Standing, width: int) -> Table:
    """No process of the stack's own belongs to them, which leaves the whole line to what is found."""
    table = _grid(width)
    for finding in standing.anvils:
        table.add_row(*_finding(finding))
    return table


def _grid(width: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(min_width=width)
    table.add_column(overflow="fold")
    return table


def _finding(finding: Finding) -> tuple[Text, str, Text]:
    mark = Text("✓", "green") if finding.well else Text("✗", "bold red")
    return mark, finding.part, Text(finding.text, "" if finding.well else "red")


def _process(standing: Standing, name: str) -> Text:
    part = standing.processes.get(name)
    if part is None:
        return Text("")
    state = f"{part['state']}, pid {part['pid']}" if part["pid"] else part["state"]
    restarts = f", {part['restarts']} restarts, last exit {part['last_exit']}" if part["restarts"] else ""
    return Text(f"{state}{restarts}, for {duration(time.time() - part['since'])}")


def _rituals(rituals: tuple[dict[str, Any], ...]) -> Table:
    table = Table(box=None, pad_edge=False, title="rituals under way", title_justify="left", title_style="bold")
    for column in ("ritual", "persona", "state", "since"):
        table.add_column(column)
    for row in rituals:
        table.add_row(short_id(row["id"]), row["persona"], shown_state(row), ago(row["entered_at"]))
    return table
