"""`soulforge karma import`: history as a file becomes what the personas remember."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deploy.cli.connect import load_settings
from deploy.cli.console import err, out, print_note

PANEL = "Karma"

group = typer.Typer(no_args_is_help=True, help="What the personas remember.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="karma", rich_help_panel=PANEL)


@group.command("import")
def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSON Lines, or a JSON array, of records or conversations.")
    ],
    form: Annotated[
        Literal["auto", "karma", "openai", "sharegpt", "alpaca"],
        typer.Option(help="How the records are written; auto looks at each."),
    ] = "auto",
    persona: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose conversations these are, where the form does not say it.")
    ] = None,
    consecrated_by: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="Who vouches for these conversations; else they stay speculative."),
    ] = None,
    session_by: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Field of a conversation that names its session. Default: its id."),
    ] = None,
    errors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every wrong line's number and fault here.")
    ] = None,
) -> None:
    """Remember the records of these files.

    A record whose id is known is left as it is. Wrong lines are told by number and skipped; the exit code is 1 then.
    Records in Soulforge's own form say themselves whose they are and who vouches for them.
    """
    import asyncio

    from deploy.cli.import_formats.load import SHOWN, Order, bring_in

    order = Order.of(form, persona, consecrated_by, session_by, errors)
    tally = asyncio.run(bring_in(load_settings(), files, order))
    for wrong in tally.shown:
        err.print(f"[red]{wrong.file}:{wrong.line}[/]", end=" ", soft_wrap=True)
        err.print(wrong.why, markup=False, soft_wrap=True)
    if tally.wrong > SHOWN:
        err.print(f"[red]… and {tally.wrong - SHOWN} more wrong lines[/]")
        print_note(f"all of them stand in {errors}" if errors else "--errors FILE writes them all")
    out.print(str(tally))
    raise typer.Exit(1 if tally.wrong else 0)
