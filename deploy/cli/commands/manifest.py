"""`soulforge manifest list` and `soulforge manifest show`: what a dataset manifest holds, and what was left out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.connect import database, load_settings
from deploy.cli.console import out, print_note
from deploy.cli.errors import UserError
from deploy.cli.format import short_digest

if TYPE_CHECKING:
    from shared.settings import Settings

PANEL = "Karma"

group = typer.Typer(no_args_is_help=True, help="The dataset manifests that harvests wrote.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="manifest", rich_help_panel=PANEL)


@group.command("list")
def list_() -> None:
    """List the manifests, the newest first."""
    import asyncio

    from rich.table import Table

    rows = asyncio.run(_manifests(load_settings()))
    if not rows:
        out.print("no manifest yet: `soulforge intend PERSONA` asks for a harvest")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("manifest", "persona", "train", "dev", "holdout", "written"):
        table.add_column(name, justify="right" if name in ("train", "dev", "holdout") else "left")
    for row in rows:
        counts = (str(row["train"]), str(row["dev"]), str(row["held_out"]))
        table.add_row(
            short_digest(row["digest"]), row["persona"], *counts, f"{row['created_at'].astimezone():%Y-%m-%d %H:%M}"
        )
    out.print(table)


@group.command()
def show(
    which: Annotated[
        str | None, typer.Argument(metavar="[DIGEST|PERSONA]", help="The start of a digest, or a persona: its newest.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE.svg", help="Also draw lengths, sources and exclusions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest's own file.")] = False,
) -> None:
    """Show what a manifest holds and what was left out.

    Counts, lengths, sources, what was redacted, and why records were not used.
    """
    import asyncio

    from deploy.cli.views.manifest import draw, view

    settings = load_settings()
    digest = _chosen(asyncio.run(_manifests(settings)), which)
    values = _read(settings, digest)
    out.print_json(json.dumps(values)) if as_json else out.print(view(digest, values))
    if picture:
        _write(picture, draw(digest, values))


async def _manifests(settings: Settings) -> list[dict[str, Any]]:
    from deploy.cli.queries.karma import list_manifests

    async with database(settings) as pool:
        return await list_manifests(pool)


def _chosen(rows: list[dict[str, Any]], which: str | None) -> str:
    """The digest that is meant: of all manifests, the newest first."""
    if not rows:
        raise UserError("there is no manifest yet: `soulforge intend PERSONA` asks for a harvest")
    if which is None:
        return str(rows[0]["digest"])
    wanted = which.removeprefix("sha256:")
    found = [row["digest"] for row in rows if row["persona"] == which][:1]
    found = found or [row["digest"] for row in rows if row["digest"].removeprefix("sha256:").startswith(wanted)]
    if len(found) != 1:
        problem = "is the start of more than one manifest: give more of it" if found else "names no manifest"
        raise UserError(f"{which} {problem}; `soulforge manifest list` lists them")
    return str(found[0])


def _read(settings: Settings, digest: str) -> dict[str, Any]:
    from shared.artifacts import Artifacts

    path = Artifacts(settings.home).manifest(digest) / "manifest.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read: {error}; the manifest was moved or damaged, a harvest writes it anew"
        ) from error
    return values


def _write(picture: Path, text: str) -> None:
    try:
        picture.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{picture} cannot be written: {error.strerror}") from error
    print_note(f"drawn in {picture}")
