"""`soulforge dead-letters`: messages that no service could handle, to be read and replayed."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from deploy.cli.connect import bus, database, load_settings
from deploy.cli.console import out, print_text
from deploy.cli.errors import UserError
from deploy.cli.format import ago

if TYPE_CHECKING:
    from shared.config.settings import Settings
    from shared.messaging.dead_letters import DeadLetter
    from shared.storage.postgres import Pool

PANEL = "Repair"
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
LETTER = typer.Argument(metavar="SERVICE/ID", help="A letter as `soulforge dead-letters list` names it.")

group = typer.Typer(no_args_is_help=True, help="Messages that no service could handle.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="dead-letters", rich_help_panel=PANEL)


@group.command("list")
def list_() -> None:
    """List the dead letters of every service."""
    from rich.table import Table

    letters = asyncio.run(_list(load_settings()))
    if not letters:
        out.print("no dead letters")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("letter", "subject", "died", "replayed", "error"):
        table.add_column(name, overflow="fold")
    for letter in letters:
        replayed = ago(letter.replayed_at) if letter.replayed_at else ""
        error = " ".join(letter.error.split())
        table.add_row(letter.name, letter.subject, ago(letter.died_at), replayed, error)
    out.print(table)


@group.command()
def show(letter: Annotated[str, LETTER]) -> None:
    """Show one dead letter whole: error, headers, body."""
    found = asyncio.run(_get(load_settings(), letter))
    lines = [f"letter:   {found.name}", f"subject:  {found.subject}", f"died:     {found.died_at:%Y-%m-%d %H:%M:%S %Z}"]
    if found.replayed_at:
        lines.append(f"replayed: {found.replayed_at:%Y-%m-%d %H:%M:%S %Z}")
    lines += [f"error:    {found.error}", *(f"header:   {key}: {value}" for key, value in found.headers.items())]
    if found.body is None:
        body = f"(the body was not kept: {found.size} bytes, sha256 {found.digest.hex()})"
    else:
        body = found.body.decode(errors="replace")
    print_text("\n".join([*lines, "", body]))


@group.command()
def replay(letter: Annotated[str, LETTER]) -> None:
    """Publish a dead letter again.

    A new message with the same body on the same subject; the letter is kept and marked as replayed.
    """
    found = asyncio.run(publish_again(load_settings(), letter))
    out.print(f"published {found.name} again on {found.subject}; if it fails again, it is a new letter")


def parse_name(given: str) -> tuple[str, int]:
    """Parse a letter's name into service and number. Raises UserError."""
    from deploy.services import SERVICES

    service, _, number = given.partition("/")
    if service not in SERVICES:
        raise UserError(f"{given!r} names no letter: SERVICE/ID, where SERVICE is one of {', '.join(SERVICES)}")
    if not number.isascii() or not number.isdigit():
        raise UserError(f"{given!r} names no letter: SERVICE/ID, e.g. {service}/1")
    return service, int(number)


async def publish_again(settings: Settings, given: str) -> DeadLetter:
    """Publish the stored body under a new message id, then mark the letter as replayed."""
    from shared.messaging.dead_letters import mark_replayed

    async with database(settings) as pool:
        letter = await _find(pool, given)
        if letter.body is None:
            raise UserError(
                f"{letter.name} was kept without its body: it cannot be replayed; publish the message again"
            )
        await _publish(settings, letter, letter.body)
        await mark_replayed(pool, letter)
    return letter


async def _publish(settings: Settings, letter: DeadLetter, body: bytes) -> None:
    """Publish as the owner, else as a service that publishes on this subject: a fact is no message of the owner's."""
    from shared.contracts.intent import TrainingIntent
    from shared.contracts.roles import PUBLISHERS, Role

    roles = {role for message, roles in PUBLISHERS.items() if message.subject == letter.subject for role in roles}
    role = Role.OWNER if Role.OWNER in roles or not roles else min(roles)
    headers = fresh_headers(letter.headers)
    async with bus(settings, role) as client:
        if letter.subject == TrainingIntent.subject:
            # That stream does not acknowledge: its answer is the harvester's, which may be away.
            await client.publish(letter.subject, body, headers=headers)
            await client.flush()
        else:
            await client.jetstream().publish(letter.subject, body, headers=headers)


def fresh_headers(old: dict[str, str]) -> dict[str, str]:
    """The letter's own headers with a new message id, so that the stream does not drop it as a duplicate.

    A header whose name is no token (RFC 7230) came from no client, and none sends it.
    """
    kept = {key: value for key, value in old.items() if TOKEN.fullmatch(key) and not key.lower().startswith("nats-")}
    return {**kept, "Nats-Msg-Id": str(uuid4())}


async def _list(settings: Settings) -> list[DeadLetter]:
    from deploy.services import SERVICES
    from shared.messaging.dead_letters import list_dead_letters

    async with database(settings) as pool:
        return [letter for service in SERVICES for letter in await list_dead_letters(pool, service)]


async def _get(settings: Settings, given: str) -> DeadLetter:
    async with database(settings) as pool:
        return await _find(pool, given)


async def _find(pool: Pool, given: str) -> DeadLetter:
    from shared.messaging.dead_letters import list_dead_letters

    service, number = parse_name(given)
    for letter in await list_dead_letters(pool, service):
        if letter.id == number:
            return letter
    raise UserError(f"there is no letter {given}: `soulforge dead-letters list` shows them")
