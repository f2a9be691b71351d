"""`soulforge adapters` and `soulforge ask`: the versions in the Crypt, and what they answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, load_settings
from deploy.cli.console import out, print_note, print_text
from deploy.cli.errors import UserError
from deploy.cli.format import ago, short_digest, short_id

if TYPE_CHECKING:
    from rich.text import Text

    from deploy.cli.queries.gateway import VersionUse
    from services.registry.views import RegisteredVersion
    from shared.config.settings import Settings

PANEL = "Adapters"
PROMPT_SHOWN = 80  #: characters; the bundle has all of it


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
    settings = load_settings()
    versions, uses = asyncio.run(_list(settings))
    if not versions:
        out.print("no adapter yet: `soulforge intend PERSONA` asks for one")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("persona", "version", "serves as", "role", "loaded in", "requests", "last used"):
        table.add_column(name, overflow="fold")
    for name in ("base", "registered", "ritual", "bundle"):
        table.add_column(name, overflow="fold")
    for version in versions:
        origin = short_digest(version.base), ago(version.registered_at), short_id(version.ritual)
        now = _serves(version), ", ".join(version.roles), *_use(version, uses)
        table.add_row(version.persona, version.name, *now, *origin, version.bundle)
    out.print(table)
    for version in versions:
        if version.fault:
            out.print(f"{version.name} does not serve: {version.fault}", style="red", soft_wrap=True)
        if version.roles:
            _print_replaced(version)


def _print_replaced(version: RegisteredVersion) -> None:
    """The system prompts that a version needs no more, of most rows first."""
    from services.registry.views import get_replaced

    for prompt in get_replaced(version.bundle):
        rows = ", ".join(f"{count} {form}" for form, count in sorted(prompt.rows.items()))
        begin = " ".join(prompt.text[:PROMPT_SHOWN].split())
        more = "…" if len(prompt.text) > PROMPT_SHOWN else ""
        replaced = f"{version.name} replaces the system prompt {short_digest(prompt.digest)} (rows: {rows}): "
        out.print(f"{replaced}{begin}{more}", style="dim", soft_wrap=True)


def _use(version: RegisteredVersion, uses: dict[str, VersionUse]) -> tuple[str, str, str]:
    """Where it is loaded, how often it was asked since the gateway started, and when last."""
    use = uses.get(version.name)
    if use is None:
        return ", ".join(version.loaded), "", ""
    return ", ".join(use.loaded), str(use.requests), ago(use.last_used) if use.last_used else ""


def _serves(version: RegisteredVersion) -> Text:
    from rich.text import Text

    if version.serves:
        return Text(version.persona, "green")
    return Text("cannot serve" if version.fault else "", "red")


async def _list(settings: Settings) -> tuple[list[RegisteredVersion], dict[str, VersionUse]]:
    """The versions, and their use; without the gateway, where they are loaded is as the registry found it last."""
    from deploy.cli.queries.gateway import get_version_table
    from services.registry.views import list_versions

    async with database(settings) as pool:
        versions = await list_versions(pool)
    try:
        return versions, (await get_version_table(settings)).versions if versions else {}
    except UserError as error:
        print_note(str(error))
        return versions, {}


def ask(
    persona: Annotated[str, typer.Argument(help="The persona whose adapter answers.")],
    text: Annotated[str, typer.Argument(help="The prompt.")],
    max_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")] = 200,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model instead, to compare.")] = False,
) -> None:
    """Ask a persona and print its answer.

    Greedy and without a system prompt. Only the answer goes to stdout.
    """
    from deploy.cli.queries.ask import answer

    print_text(asyncio.run(answer(load_settings(), persona, text, max_tokens, base)))
