"""`soulforge adapters` and `soulforge ask`: the versions in the Crypt, and what they answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, error_text, host_port, load_settings
from deploy.cli.console import out, print_note, print_text
from deploy.cli.errors import UserError
from deploy.cli.format import ago, short_digest, short_id

if TYPE_CHECKING:
    import httpx
    from rich.text import Text

    from services.registry.views import RegisteredVersion
    from shared.config.settings import Settings

PANEL = "Adapters"
ANSWER_TIMEOUT_S = 120.0


group = typer.Typer()


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="adapters", rich_help_panel=PANEL)
    app.command(rich_help_panel=PANEL)(ask)


@group.callback(invoke_without_command=True)
def adapters(context: typer.Context) -> None:
    """List every persona's versions, or decide about them."""
    from rich.table import Table

    if context.invoked_subcommand:
        return
    versions = asyncio.run(_list(load_settings()))
    if not versions:
        out.print("no adapter yet: `soulforge intend PERSONA` asks for one")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("persona", "version", "serves as", "role", "loaded in", "base", "registered", "ritual", "bundle"):
        table.add_column(name, overflow="fold")
    for version in versions:
        alias = _serves(version)
        origin = short_digest(version.base), ago(version.registered_at), short_id(version.ritual)
        roles, loaded = ", ".join(version.roles), ", ".join(version.loaded)
        table.add_row(version.persona, version.name, alias, roles, loaded, *origin, version.bundle)
    out.print(table)
    for version in versions:
        if version.fault:
            out.print(f"{version.name} does not serve: {version.fault}", style="red", soft_wrap=True)


def _serves(version: RegisteredVersion) -> Text:
    from rich.text import Text

    if version.serves:
        return Text(version.persona, "green")
    return Text("cannot serve" if version.fault else "", "red")


async def _list(settings: Settings) -> list[RegisteredVersion]:
    from services.registry.views import list_versions

    async with database(settings) as pool:
        return await list_versions(pool)


def ask(
    persona: Annotated[str, typer.Argument(help="The persona whose adapter answers.")],
    text: Annotated[str, typer.Argument(help="The prompt.")],
    max_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")] = 200,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model instead, to compare.")] = False,
) -> None:
    """Ask a persona and print its answer.

    Greedy and without a system prompt. Only the answer goes to stdout.
    """
    print_text(asyncio.run(answer(load_settings(), persona, text, max_tokens, base)))


async def answer(settings: Settings, persona: str, text: str, max_tokens: int, base: bool = False) -> str:
    """Ask the persona (or the base) at the gateway. Raises UserError where nothing can answer now."""
    import httpx

    from deploy.services import load_configuration

    configuration = load_configuration(settings)
    model = configuration.base_of(persona) if base else persona
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": max_tokens,
        "temperature": 0.0,
    }
    try:
        async with httpx.AsyncClient(base_url=settings.gateway_url, timeout=ANSWER_TIMEOUT_S) as client:
            answered = await client.post("/v1/chat/completions", json=asked)
            if answered.is_success:
                await _note_trouble(client, model)
                return str(answered.json()["choices"][0]["message"]["content"] or "")
    except httpx.HTTPError as error:
        where = host_port(settings.gateway_url)
        raise UserError(
            f"the gateway does not answer at {where} ({error_text(error)}): is the stack up? `soulforge up`"
        ) from error
    raise await _no_answer(settings, configuration.forge, persona, answered)


async def _note_trouble(client: httpx.AsyncClient, model: str) -> None:
    """Print why the persona is served by another version than its owner wants, if it is."""
    card = (await client.get(f"/v1/models/{model}")).json()
    if trouble := card["soulforge"].get("trouble"):
        print_note(f"{trouble} ({card['root']} serves in its place)")


async def _no_answer(settings: Settings, forge: str, persona: str, answered: httpx.Response) -> UserError:
    """Why there is no answer: the gateway's reason, and the ritual that holds the anvil or the way to an adapter."""
    import httpx

    try:
        why = str(answered.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        why = f"HTTP {answered.status_code}: {answered.text[:300]}"
    if answered.status_code == httpx.codes.NOT_FOUND:
        return UserError(f"{why}; `soulforge intend {persona}` asks for an adapter, --base asks the base model")
    if answered.status_code == httpx.codes.SERVICE_UNAVAILABLE and (holder := await _get_holder(settings, forge)):
        why += f"; ritual {holder} holds {forge}, watch it: soulforge watch {holder}"
    return UserError(why)


async def _get_holder(settings: Settings, forge: str) -> str | None:
    """The ritual that holds the anvil; None where none does, or the ledger is away."""
    from services.orchestrator.views import get_anvil_status

    try:
        async with database(settings) as pool:
            anvil = await get_anvil_status(pool, forge)
    except UserError:
        return None
    return short_id(anvil.holder.ritual) if anvil.holder else None
