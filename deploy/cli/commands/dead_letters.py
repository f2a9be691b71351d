"""`soulforge dead-letters`: messages that no service could take, to be read and said again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from deploy.cli.connect import bus, database, load_settings
from deploy.cli.console import out
from deploy.cli.errors import UserError
from deploy.cli.format import ago

if TYPE_CHECKING:
    from shared.postgres import Pool
    from shared.settings import Settings

PANEL = "Repair"
LETTER = typer.Argument(metavar="SERVICE/ID", help="A letter as `soulforge dead-letters list` names it.")

group = typer.Typer(no_args_is_help=True, help="Messages that no service could take.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="dead-letters", rich_help_panel=PANEL)


@dataclass(frozen=True)
class Letter:
    """One dead letter and the service that buried it."""

    service: str
    row: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.service}/{self.row['id']}"


@group.command("list")
def list_() -> None:
    """List the dead letters of every service."""
    import asyncio

    from rich.table import Table
    from rich.text import Text

    letters = asyncio.run(_all(load_settings()))
    if not letters:
        out.print("no dead letters")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("letter", "subject", "died", "replayed", "error"):
        table.add_column(name, overflow="fold")
    for letter in letters:
        row = letter.row
        replayed = ago(row["replayed_at"]) if row["replayed_at"] else ""
        table.add_row(letter.name, row["subject"], ago(row["died_at"]), replayed, Text(" ".join(row["error"].split())))
    out.print(table)


@group.command()
def show(letter: Annotated[str, LETTER]) -> None:
    """Show one dead letter whole: error, headers, body."""
    import asyncio

    found = asyncio.run(_one(load_settings(), letter))
    row = found.row
    lines = [
        f"letter:   {found.name}",
        f"subject:  {row['subject']}",
        f"died:     {row['died_at']:%Y-%m-%d %H:%M:%S %Z}",
    ]
    lines += [f"replayed: {row['replayed_at']:%Y-%m-%d %H:%M:%S %Z}"] if row["replayed_at"] else []
    lines += [f"error:    {row['error']}", *(f"header:   {key}: {value}" for key, value in row["headers"].items())]
    typer.echo("\n".join([*lines, "", bytes(row["body"]).decode(errors="replace")]))


@group.command()
def replay(letter: Annotated[str, LETTER]) -> None:
    """Say a dead letter again.

    A new message with the same body on the same subject; the letter is kept and marked as replayed.
    """
    import asyncio

    found = asyncio.run(say_again(load_settings(), letter))
    out.print(f"said {found.name} again on {found.row['subject']}; if it dies again, it is a new letter")


def parse(given: str) -> tuple[str, int]:
    """(service, number) of a letter's name. Raises UserError."""
    from shared.settings import SERVICES

    service, _, number = given.partition("/")
    if service not in SERVICES:
        raise UserError(f"{given!r} names no letter: SERVICE/ID, where SERVICE is one of {', '.join(SERVICES)}")
    if not number.isascii() or not number.isdigit():
        raise UserError(f"{given!r} names no letter: SERVICE/ID, e.g. {service}/1")
    return service, int(number)


async def say_again(settings: Settings, given: str) -> Letter:
    """Publish the stored body under a new message id, then mark the letter as replayed."""
    from shared.contracts.intent import TrainingIntent
    from shared.dead_letters import mark_replayed

    async with database(settings) as pool, bus(settings) as client:
        letter = await _find(pool, given)
        subject, body, headers = letter.row["subject"], bytes(letter.row["body"]), fresh_headers(letter.row["headers"])
        if subject == TrainingIntent.subject:
            # That stream does not acknowledge: its answer is the harvester's, which may be away.
            await client.publish(subject, body, headers=headers)
            await client.flush()
        else:
            await client.jetstream().publish(subject, body, headers=headers)
        await mark_replayed(pool, letter.service, letter.row["id"])
    return letter


def fresh_headers(old: dict[str, str]) -> dict[str, str]:
    """The headers to say a letter again with: its own, but a new id, or it is folded into the message that died."""
    kept = {key: value for key, value in old.items() if not key.lower().startswith("nats-")}
    return {**kept, "Nats-Msg-Id": str(uuid4())}


async def _all(settings: Settings) -> list[Letter]:
    from shared.dead_letters import listed
    from shared.settings import SERVICES

    async with database(settings) as pool:
        return [Letter(service, row) for service in SERVICES for row in await listed(pool, service)]


async def _one(settings: Settings, given: str) -> Letter:
    async with database(settings) as pool:
        return await _find(pool, given)


async def _find(pool: Pool, given: str) -> Letter:
    from shared.dead_letters import listed

    service, number = parse(given)
    for row in await listed(pool, service):
        if row["id"] == number:
            return Letter(service, row)
    raise UserError(f"there is no letter {given}: `soulforge dead-letters list` shows them")
