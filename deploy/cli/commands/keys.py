"""`soulforge keys add|list|revoke`: the keys with which clients reach the gateway."""

from __future__ import annotations

import asyncio
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, load_settings
from deploy.cli.console import out, print_note, print_text
from deploy.cli.errors import UserError
from deploy.cli.format import ago, parse_duration
from shared.contracts.scopes import Scope

if TYPE_CHECKING:
    from services.gateway.keys.key import Key
    from services.gateway.keys.store import StoredKey
    from shared.config.settings import Settings

PANEL = "Adapters"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,99}")
MOST_PER_MINUTE = 100_000

group = typer.Typer(no_args_is_help=True, help="The keys with which clients reach the gateway.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="keys", rich_help_panel=PANEL)


@group.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is; kept with what is consecrated and decided by it.")],
    scope: Annotated[list[Scope], typer.Option("--scope", help="What it allows. May be repeated.")],
    persona: Annotated[
        list[str] | None, typer.Option("--persona", help="A persona that it is for. May be repeated. Default: all.")
    ] = None,
    per_minute: Annotated[
        int | None, typer.Option(min=1, max=MOST_PER_MINUTE, help="Most requests in a minute. Default: no limit.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long it opens, e.g. 90d. Default: until it is revoked.")
    ] = None,
) -> None:
    """Make a key and print it: it is kept nowhere else.

    `chat` asks models, `train` brings files and requests rituals, `consecrate` makes of them white truths of the key's owner,
    `approve` decides about versions, `admin` allows everything.
    """
    from services.gateway.keys.key import Key, hash_secret, make_secret

    _check(name, scope, persona)
    secret = make_secret()
    key = Key(
        id=f"key-{secrets.token_hex(6)}",
        name=name,
        hash=hash_secret(secret),
        scopes=frozenset(scope),
        personas=frozenset(persona) if persona else None,
        per_minute=per_minute,
        expires_at=datetime.now(UTC) + timedelta(seconds=parse_duration(expires)) if expires else None,
    )
    asyncio.run(_insert(load_settings(), key))
    print_text(secret)
    print_note(f"{key.id} of {name}: {_describe(key)}. It is shown only now; `soulforge keys revoke {key.id}` ends it")


def _check(name: str, scopes: list[Scope], personas: list[str] | None) -> None:
    """Raises UserError for a key that makes no sense."""
    from services.gateway.keys.key import OWNER_KEY
    from shared.contracts.karma import PERSONA_PATTERN

    if not NAME.fullmatch(name) or name == OWNER_KEY:
        raise UserError(
            f"NAME: {name!r} cannot be used: letters, digits, spaces and ._@+- (1 to 100), and not {OWNER_KEY!r}"
        )
    if Scope.ADMIN in scopes and (len(set(scopes)) > 1 or personas):
        raise UserError("--scope admin includes every other scope and every persona: give it alone")
    if Scope.CONSECRATE in scopes and Scope.TRAIN not in scopes:
        raise UserError("--scope consecrate is for what a key brings, which needs --scope train as well")
    for persona in personas or ():
        if not re.fullmatch(PERSONA_PATTERN, persona):
            raise UserError(f"--persona: {persona!r} is no name of a persona: a-z, 0-9, _ and -, a letter first")


@group.command("list")
def list_() -> None:
    """List every key, without its secret."""
    from rich.table import Table

    from services.gateway.keys.key import OWNER_KEY

    settings = load_settings()
    keys = asyncio.run(_list(settings))
    table = Table(box=None, pad_edge=False)
    for column in ("key", "of", "allows", "made", "last used", "state"):
        table.add_column(column, overflow="fold")
    for key in keys:
        used = ago(key.last_used_at) if key.last_used_at else "never"
        table.add_row(key.id, key.name, _describe(key), ago(key.created_at), used, _state(key))
    if keys:
        out.print(table)
    print_note(
        f"besides, {OWNER_KEY}, with all rights, in {settings.owner_key_file}: delete it to renew it at the next start"
    )


@group.command()
def revoke(key: Annotated[str, typer.Argument(help="Its id, or whose it is where that is one key.")]) -> None:
    """Refuse a key from now on."""
    revoked = asyncio.run(_revoke(load_settings(), key))
    out.print(f"{revoked.id} of {revoked.name} is refused from now on")


def _describe(key: Key) -> str:
    """What a key allows, in words."""
    parts = [", ".join(scope for scope in Scope if scope in key.scopes)]
    if key.personas:
        parts.append(f"for {', '.join(sorted(key.personas))}")
    if key.per_minute:
        parts.append(f"{key.per_minute} a minute")
    if key.expires_at:
        parts.append(f"until {key.expires_at:%Y-%m-%d %H:%M} UTC")
    return "; ".join(parts)


def _state(key: StoredKey) -> str:
    return key.find_trouble() or "open"


async def _insert(settings: Settings, key: Key) -> None:
    from services.gateway.keys.store import insert_key

    async with database(settings) as pool:
        await insert_key(pool, key)


async def _list(settings: Settings) -> list[StoredKey]:
    from services.gateway.keys.store import list_stored_keys

    async with database(settings) as pool:
        return await list_stored_keys(pool)


async def _revoke(settings: Settings, given: str) -> Key:
    """Raises UserError where no key, or more than one, is meant."""
    from services.gateway.keys.store import list_keys, mark_revoked

    async with database(settings) as pool:
        keys = [key for key in await list_keys(pool) if given in (key.id, key.name) and not key.revoked_at]
        if len(keys) != 1:
            which = f": {', '.join(key.id for key in keys)}" if keys else ""
            raise UserError(f"{len(keys) or 'no'} keys in force are {given!r}{which} (`soulforge keys list`)")
        await mark_revoked(pool, keys[0].id)
    return keys[0]
