"""`soulforge karma import` and `soulforge karma stats`: what the personas remember."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.consoles import err, out
from deploy.cli.reach import database, settings

if TYPE_CHECKING:
    from deploy.cli.karma_file import WrongLine
    from shared.contracts.karma import KarmaRecord
    from shared.postgres import Pool
    from shared.settings import Settings

PANEL = "Karma"
BATCH = 200
SHOWN = 20

group = typer.Typer(no_args_is_help=True, help="What the personas remember.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="karma", rich_help_panel=PANEL)


@dataclass
class Tally:
    """What became of the lines that were read."""

    new: int = 0
    known: int = 0
    wrong: list[WrongLine] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.new} new, {self.known} known already, {len(self.wrong)} wrong"


@group.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON Lines, one karma record per line.")],
) -> None:
    """Remember the records of these files.

    A record whose id is known is left as it is. Wrong lines are told by number and skipped; the exit code is 1 then.
    """
    import asyncio

    tally = asyncio.run(bring_in(settings(), files))
    for wrong in tally.wrong[:SHOWN]:
        err.print(f"[red]{wrong.file}:{wrong.line}[/]", end=" ", soft_wrap=True)
        err.print(wrong.why, markup=False, soft_wrap=True)
    if len(tally.wrong) > SHOWN:
        err.print(f"[red]… and {len(tally.wrong) - SHOWN} more wrong lines[/]")
    out.print(str(tally))
    raise typer.Exit(1 if tally.wrong else 0)


async def bring_in(house: Settings, files: list[Path]) -> Tally:
    """Read every file as a stream and store its records in batches; each batch is one transaction."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from deploy.cli.karma_file import WrongLine, check_file, lines

    sizes = {path: check_file(path) for path in files}
    tally, batch = Tally(), list["KarmaRecord"]()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    async with database(house) as pool:
        with Progress(*columns, console=err, transient=True) as progress:
            for path, total in sizes.items():
                task = progress.add_task(path.name, total=total)
                for line in lines(path):
                    progress.advance(task, line.read_bytes)
                    if isinstance(line.content, WrongLine):
                        tally.wrong.append(line.content)
                    elif line.content:
                        batch.append(line.content)
                    if len(batch) >= BATCH:
                        await _store(pool, batch, tally)
            await _store(pool, batch, tally)
    return tally


async def _store(pool: Pool, batch: list[KarmaRecord], tally: Tally) -> None:
    from services.harvester.store import insert

    new = 0
    async with pool.acquire() as conn, conn.transaction():
        for record in batch:
            new += await insert(conn, record)
    tally.new += new
    tally.known += len(batch) - new
    batch.clear()


@group.command()
def stats() -> None:
    """Count what every persona remembers."""
    import asyncio

    from rich.table import Table

    rows = asyncio.run(_statistics(settings()))
    if not rows:
        out.print("no karma yet: `soulforge karma import FILE.jsonl`")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("persona")
    for name in ("records", "white truths", "speculative", "revoked", "corrections", "sessions", "newest"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = ("records", "white_truths", "speculative", "revoked", "corrections", "sessions")
        table.add_row(row["persona"], *(str(row[name]) for name in counts), f"{row['newest']:%Y-%m-%d}")
    out.print(table)


async def _statistics(house: Settings) -> list[dict[str, Any]]:
    from services.harvester.store import statistics

    async with database(house) as pool:
        return await statistics(pool)
