"""How the house stands, asked of every part at once: what a part does not answer is itself the finding."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Group
from rich.table import Table
from rich.text import Text

from deploy.cli import store
from deploy.cli.durations import ago, duration, short
from deploy.cli.mistakes import Mistake
from deploy.cli.reach import bus, database, place
from shared.drivers.inference.port import InferenceError
from shared.drivers.inference.vllm import Vllm
from shared.settings import SERVICES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from shared.settings import Settings

TIMEOUT_S = 5.0
NAME_WIDTH = 13


@dataclass(frozen=True)
class Finding:
    """One part: whether it can do its job, and why not or what it does."""

    part: str
    well: bool
    text: str


@dataclass(frozen=True)
class Standing:
    findings: tuple[Finding, ...]
    processes: dict[str, dict[str, Any]]
    open_rituals: tuple[dict[str, Any], ...] = ()

    @property
    def well(self) -> bool:
        return all(finding.well for finding in self.findings)


async def look(house: Settings) -> Standing:
    """Ask every part; a part that is away costs at most TIMEOUT_S."""
    ledger, nats, rune, *services = await asyncio.gather(
        _ledger(house), _bus(house), _rune(house), *(_service(house, name) for name in SERVICES)
    )
    finding, lease, rituals = ledger
    if not rune.well and lease.holds:
        # Suspended for a ritual is what the rune is meant to be then.
        rune = Finding("rune", True, f"suspended while ritual {short(lease.ritual)} holds the anvil")
    findings = (finding, nats, *services, rune, Finding("anvil", not lease.expired, lease.text))
    return Standing(findings, _processes(house), tuple(rituals))


@dataclass(frozen=True)
class Held:
    """The anvil as the ledger tells it; `text` is for people."""

    text: str
    ritual: Any = None
    expired: bool = False

    @property
    def holds(self) -> bool:
        return self.ritual is not None


async def _ledger(house: Settings) -> tuple[Finding, Held, list[dict[str, Any]]]:
    try:
        async with asyncio.timeout(TIMEOUT_S), database(house) as pool:
            row = await store.lease(pool, house.anvil)
            rituals = await store.open_rituals(pool)
    except Exception as error:
        return Finding("postgres", False, _why(error)), Held("unknown without the ledger"), []
    return Finding("postgres", True, f"answers at {place(house.database_url)}"), _held(house.anvil, row), rituals


def _held(anvil: str, row: dict[str, Any] | None) -> Held:
    if row is None or row["ritual"] is None:
        return Held(f"{anvil} is free")
    who = f"ritual {short(row['ritual'])} ({row['persona']}), attempt {row['attempt']}, fence {row['fence']}"
    if row["live"]:
        return Held(f"{anvil} is held by {who}", row["ritual"])
    return Held(f"{anvil}: the lease of {who} expired; the orchestrator takes it back", row["ritual"], expired=True)


async def _bus(house: Settings) -> Finding:
    try:
        async with asyncio.timeout(TIMEOUT_S), bus(house) as client:
            info = await client.jetstream().account_info()
    except Exception as error:
        return Finding("nats", False, _why(error))
    return Finding("nats", True, f"answers at {place(house.nats_url)}, {info.streams} streams")


async def _service(house: Settings, name: str) -> Finding:
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            answer = (await client.get(f"{house.service_url(name)}/health/ready")).json()
    except (httpx.HTTPError, ValueError) as error:
        return Finding(name, False, f"does not answer at {place(house.service_url(name))} ({_why(error)})")
    reasons = "; ".join(str(reason) for reason in answer.get("reasons", []))
    return Finding(name, bool(answer.get("ready")), reasons or "ready")


async def _rune(house: Settings) -> Finding:
    try:
        models = sorted(await Vllm(house.rune_url).models())
    except InferenceError:
        return Finding("rune", False, f"does not answer at {place(house.rune_url)}")
    return Finding("rune", True, f"serves {', '.join(models)}")


def _processes(house: Settings) -> dict[str, dict[str, Any]]:
    """What the embedded stack supervises; empty where the house is run by something else, or was never put up."""
    from deploy.embedded import stack

    return stack.status(house) if house.home.is_dir() else {}


def _why(error: BaseException) -> str:
    if isinstance(error, Mistake):
        return str(error)
    return " ".join(str(error).split()) or f"no answer within {TIMEOUT_S:.0f} s"


def render(standing: Standing) -> RenderableType:
    parts: list[RenderableType] = [_parts(standing)]
    if standing.open_rituals:
        parts += [Text(""), _rituals(standing.open_rituals)]
    return Group(*parts)


def _parts(standing: Standing) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(min_width=NAME_WIDTH)
    table.add_column(overflow="fold")
    table.add_column(style="dim", justify="right")
    for finding in standing.findings:
        mark = Text("✓", "green") if finding.well else Text("✗", "bold red")
        table.add_row(
            mark, finding.part, Text(finding.text, "" if finding.well else "red"), _process(standing, finding.part)
        )
    shown = {finding.part for finding in standing.findings}
    for name in standing.processes.keys() - shown:
        table.add_row(Text("·", "dim"), name, Text(standing.processes[name]["state"]), _process(standing, name))
    return table


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
        table.add_row(short(row["id"]), row["persona"], row["state"], ago(row["entered_at"]))
    return table
