"""The state of the stack: every part, the runes and anvils below, and the rituals under way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from deploy.cli.connect import host_port
from deploy.cli.format import ago, duration, short_id
from deploy.cli.views.rituals import error_lines
from deploy.cli.views.stages import shown_state
from deploy.embedded.preflight import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from deploy.cli.queries.rituals import ListedRitual
    from deploy.cli.queries.stack import RuneStatus, StackStatus
    from deploy.embedded.part import PartStatus
    from services.orchestrator.views import AnvilStatus, Containment, Holder
    from shared.config.settings import Settings

NAME_WIDTH = 13


def anvil_findings(settings: Settings, status: StackStatus) -> Iterator[Finding]:
    """Every anvil after its runes; where there is only one of a kind, it needs no name."""
    if (configuration := status.configuration) is None:
        return
    for name in configuration.anvils:
        anvil = status.anvils[name] if status.anvils else None
        for rune in configuration.runes_of(name):
            part = "rune" if len(configuration.runes) == 1 else f"rune {rune}"
            where = host_port(configuration.rune_url(settings, rune))
            yield rune_finding(part, where, status.runes[rune], name, anvil)
        part = "anvil" if len(configuration.anvils) == 1 else f"anvil {name}"
        yield anvil_finding(part, anvil) if anvil else Finding(part, True, "unknown without the ledger")


def anvil_finding(part: str, anvil: AnvilStatus) -> Finding:
    """Whether an anvil is free, held or contained."""
    if anvil.containment:
        return Finding(part, False, _containment(anvil, anvil.containment))
    if anvil.holder is None:
        return Finding(part, True, f"{anvil.name} is free{_reclaim(anvil)}")
    if anvil.holder.live:
        return Finding(part, True, f"{anvil.name} is held by {_holder(anvil.holder)}{_reclaim(anvil)}")
    expired = f"{anvil.name}: the lease of {_holder(anvil.holder)} expired; the orchestrator takes it back"
    return Finding(part, False, expired)


def persona_findings(status: StackStatus) -> Iterator[Finding]:
    """Every persona that answers, and every one that is not served by the version of its alias."""
    announced = {one.persona: one for one in status.capabilities}
    for served in status.served:
        part, one = f"persona {served.persona}", announced.get(served.persona)
        if served.trouble:
            yield Finding(part, False, served.trouble)
        elif one:
            yield Finding(part, True, f"answers by {one.version} on {one.base}, up to {one.context_limit} tokens")
        else:
            yield Finding(part, True, f"is served by {served.version}, which no open engine has now")


def rune_finding(part: str, where: str, rune: RuneStatus, name: str, anvil: AnvilStatus | None) -> Finding:
    """What a rune serves, or why it does not; `name` is that of its anvil, which is None where the ledger is away."""
    holder = anvil.holder if anvil else None
    if holder and (not rune.answers or rune.closed):
        # That is what the rune is meant to be then.
        note = f" (admits no requests: {rune.closed})" if rune.closed else ""
        return Finding(part, True, f"suspended while ritual {short_id(holder.ritual)} holds {name}{note}")
    returns = "; the orchestrator brings it back" if anvil and anvil.open_fence and not holder else ""
    if not rune.answers:
        return Finding(part, False, f"does not answer at {where}{returns}")
    if rune.closed:
        return Finding(part, False, f"answers, but admits no requests: {rune.closed}{returns}")
    return Finding(part, True, f"serves {', '.join(rune.models)}" if rune.models else f"answers at {where}")


def _reclaim(anvil: AnvilStatus) -> str:
    """Until when no ritual takes the anvil, because a user reclaimed it."""
    if anvil.reclaim is None:
        return ""
    why = f" ({anvil.reclaim.why})" if anvil.reclaim.why else ""
    return f"; reclaimed{why}: no ritual takes it until {anvil.reclaim.until.astimezone():%Y-%m-%d %H:%M:%S}"


def _containment(anvil: AnvilStatus, found: Containment) -> str:
    for_s = (anvil.now - found.since).total_seconds()
    count = f"{found.failures} failure{'' if found.failures == 1 else 's'}"
    text = f"{anvil.name} is contained for {duration(for_s)}, after {count}: {found.reason}".rstrip(".")
    if found.until_accepted:
        end = f"it serves: if its answers are right, accept them with `soulforge accept {anvil.name}`"
    else:
        end = "no ritual takes it until it serves again"
    return f"{text}; {end}{_reclaim(anvil)}"


def _holder(holder: Holder) -> str:
    return f"ritual {short_id(holder.ritual)} ({holder.persona}), attempt {holder.attempt}, fence {holder.fence}"


def status_view(status: StackStatus, findings: tuple[Finding, ...]) -> RenderableType:
    """The whole status; `findings` are those about runes, anvils and personas."""
    width = max(NAME_WIDTH, *(len(finding.part) for finding in (*status.parts, *findings)))
    tables: list[RenderableType] = [_parts(status, width), _findings(findings, width)]
    if status.open_rituals:
        tables += [Text(""), _rituals(status.open_rituals), *error_lines(status.open_rituals)]
    return Group(*tables)


def _parts(status: StackStatus, width: int) -> Table:
    table = _grid(width)
    table.add_column(style="dim", justify="right")
    for finding in status.parts:
        table.add_row(*_cells(finding), _process(status.processes.get(finding.part)))
    others = status.processes.keys() - {finding.part for finding in status.parts}
    for name in sorted(others):
        process = status.processes[name]
        table.add_row(Text("·", "dim"), name, Text(process.state), _process(process))
    return table


def _findings(findings: Iterable[Finding], width: int) -> Table:
    """A table without processes, which leaves the whole line to the text."""
    table = _grid(width)
    for finding in findings:
        table.add_row(*_cells(finding))
    return table


def finding_line(finding: Finding) -> Text:
    """A finding on one line, however long: what it says to run can be copied."""
    mark, part, text = _cells(finding)
    return Text("  ").join([mark, Text(part.ljust(NAME_WIDTH)), text])


def _grid(width: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(min_width=width)
    table.add_column(overflow="fold")
    return table


def _cells(finding: Finding) -> tuple[Text, str, Text]:
    if finding.warning:
        return Text("!", "bold red"), finding.part, Text(finding.text, "red")
    mark = Text("✓", "green") if finding.ok else Text("✗", "bold red")
    return mark, finding.part, Text(finding.text, "" if finding.ok else "red")


def _process(process: PartStatus | None) -> Text:
    if process is None:
        return Text("")
    state = f"{process.state}, pid {process.pid}" if process.pid else str(process.state)
    restarts = f", {process.restarts} restarts, last exit {process.last_exit}" if process.restarts else ""
    return Text(f"{state}{restarts}, for {duration(time.time() - process.since)}")


def _rituals(rituals: Iterable[ListedRitual]) -> Table:
    table = Table(box=None, pad_edge=False, title="rituals under way", title_justify="left", title_style="bold")
    for column in ("ritual", "persona", "state", "since"):
        table.add_column(column)
    for ritual in rituals:
        table.add_row(short_id(ritual.id), ritual.persona, shown_state(ritual), ago(ritual.entered_at, ritual.now))
    return table
