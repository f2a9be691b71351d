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
    from rich.text import Text

    from services.registry.views import RegisteredVersion
    from shared.config.settings import Settings

PANEL = "Adapters"


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
    """Ask the persona's version (or the base). Raises UserError where nothing can answer now."""
    from deploy.services import load_configuration
    from shared.drivers.inference.open import open_rune
    from shared.drivers.inference.port import InferenceError, PromptMessage

    configuration = load_configuration(settings)
    name = configuration.serving_rune(persona)
    url, rune = configuration.rune_url(settings, name), open_rune(configuration, settings, name)
    model = configuration.base_of(persona) if base else await _get_version(settings, persona)
    try:
        served = await rune.models()
        if model in served:
            return await rune.answer(model, (PromptMessage(role="user", content=text),), max_tokens)
    except InferenceError as error:
        raise await _no_answer(settings, configuration.forge, url, error) from error
    raise UserError(f"the rune does not serve {model} (it serves {', '.join(sorted(served))}): see `soulforge status`")


async def _get_version(settings: Settings, persona: str) -> str:
    """The version that serves for the persona; a note is printed where it is not the one of the alias."""
    from services.registry.views import list_served

    async with database(settings) as pool:
        served = {found.persona: found for found in await list_served(pool)}
    if not served:
        raise UserError(
            f"no persona has an adapter yet: `soulforge intend {persona}` asks for one; --base asks the base model"
        )
    if (found := served.get(persona)) is None:
        raise UserError(f"persona {persona!r} has no adapter; these have one: {', '.join(served)}")
    if found.version is None:
        raise UserError(f"{found.trouble}")
    if found.trouble:
        print_note(found.trouble)
    return found.version


async def _no_answer(settings: Settings, forge: str, url: str, error: Exception) -> UserError:
    """Why the rune does not answer: because a ritual holds its anvil, or because it is down."""
    from services.orchestrator.views import get_anvil_status

    async with database(settings) as pool:
        anvil = await get_anvil_status(pool, forge)
    if anvil.holder:
        ritual = short_id(anvil.holder.ritual)
        holds = f"ritual {ritual} ({anvil.holder.persona}) holds {anvil.name}"
        return UserError(f"inference is suspended: {holds}; watch it: soulforge watch {ritual}")
    where = host_port(url)
    return UserError(f"the rune at {where} did not answer ({error_text(error)}): see `soulforge status`")
