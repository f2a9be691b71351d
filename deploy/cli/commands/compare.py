"""`soulforge compare`: one prompt to two versions of a persona, with the proof of which weights answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.commands.adapters import PANEL
from deploy.cli.connect import database, load_settings
from deploy.cli.console import out, print_json
from deploy.cli.format import short_digest

if TYPE_CHECKING:
    from rich.text import Text

    from deploy.cli.views.compared import Compared
    from shared.config.settings import Settings

Version = Annotated[
    str, typer.Argument(help="`base`, `champion`, `previous`, `candidate`, or first digits of a digest.")
]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(compare)


def compare(
    persona: Annotated[str, typer.Argument(help="The persona.")],
    first: Version,
    second: Version,
    text: Annotated[str, typer.Argument(help="The prompt.")],
    max_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
) -> None:
    """Ask two versions of a persona, side by side.

    Greedy and without a system prompt. Each answer comes with its version, the engine that gave it, and whether that
    engine was proven to answer with these weights. Exit code 0 only where both are proven.
    """
    found = asyncio.run(_compare(load_settings(), persona, (first, second), text, max_tokens))
    if as_json:
        print_json({"persona": persona, "prompt": text, "answers": [one.model_dump(mode="json") for one in found]})
    else:
        _print(found)
    raise typer.Exit(0 if all(one.proven for one in found) else 1)


async def _compare(
    settings: Settings, persona: str, given: tuple[str, str], text: str, max_tokens: int
) -> list[Compared]:
    from deploy.cli.queries import ask
    from deploy.cli.views.compared import judge, resolve
    from deploy.services import load_configuration
    from services.registry import views

    base = load_configuration(settings).base_of(persona)
    async with database(settings) as pool:
        versions = [one for one in await views.list_versions(pool) if one.persona == persona]
        aliases = await views.get_aliases(pool, persona)
    asked = [resolve(one, persona, versions, aliases) for one in given]
    answers = await asyncio.gather(
        *(ask.ask_model(settings, persona, one.name if one else base, text, max_tokens) for one in asked)
    )
    async with database(settings) as pool:  # after the answers: a proof of what was loaded before them has gone with it
        proofs = await views.list_proofs(pool, persona)
    return [judge(name, one, base, answer, proofs) for name, one, answer in zip(given, asked, answers, strict=True)]


def _print(found: list[Compared]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, expand=True)
    for one in found:
        table.add_column(f"{one.asked}: {one.model}", ratio=1, overflow="fold")
    table.add_row(*(Text(one.answer) for one in found))
    table.add_row(*(_proof(one) for one in found))
    out.print(table)


def _proof(one: Compared) -> Text:
    from rich.text import Text

    weights = f"adapter {short_digest(one.adapter)}, ritual {one.ritual}" if one.adapter else "the base, no adapter"
    return Text(f"\n{weights}; engine {one.engine}: {one.evidence}", "green" if one.proven else "red")
