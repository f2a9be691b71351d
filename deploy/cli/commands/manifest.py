"""`soulforge manifest list` and `soulforge manifest show`: what a dataset manifest holds, and what was left out of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, load_settings
from deploy.cli.console import create_file, out, print_json, print_note
from deploy.cli.errors import UserError
from deploy.cli.format import short_digest

if TYPE_CHECKING:
    from deploy.cli.views.manifest import ManifestFile
    from services.harvester.views import Manifest
    from shared.config.settings import Settings

PANEL = "Karma"

group = typer.Typer(no_args_is_help=True, help="The dataset manifests that harvests wrote.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="manifest", rich_help_panel=PANEL)


@group.command("list")
def list_() -> None:
    """List the manifests, the newest first."""
    from rich.table import Table

    manifests = asyncio.run(_list(load_settings()))
    if not manifests:
        out.print("no manifest yet: `soulforge intend PERSONA` asks for a harvest")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("manifest", "persona", "train", "dev", "holdout", "written"):
        table.add_column(name, justify="right" if name in ("train", "dev", "holdout") else "left")
    for row in manifests:
        counts = (str(count) for count in (row.train, row.dev, row.held_out))
        table.add_row(short_digest(row.digest), row.persona, *counts, f"{row.created_at.astimezone():%Y-%m-%d %H:%M}")
    out.print(table)


@group.command()
def show(
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="DIGEST|PERSONA", help="The start of a digest, or a persona for its newest. Default: the newest."
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", metavar="FILE.svg", help="Also draw lengths, sources and exclusions to this new file."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest's own file.")] = False,
) -> None:
    """Show what a manifest holds and what was left out.

    Counts, lengths, sources, what was redacted, and why records were not used.
    """
    from deploy.cli.views.manifest import draw, manifest_view

    settings = load_settings()
    digest = choose(asyncio.run(_list(settings)), which)
    text, manifest = read_manifest(settings, digest)
    if as_json:
        print_json(json.loads(text))
    else:
        out.print(manifest_view(digest, manifest))
    if picture:
        write_picture(picture, draw(digest, manifest))


async def _list(settings: Settings) -> list[Manifest]:
    from services.harvester.views import list_manifests

    async with database(settings) as pool:
        return await list_manifests(pool)


def choose(manifests: Sequence[Manifest], which: str | None) -> str:
    """The digest that a user means, of all manifests, the newest first. Raises UserError where it is not one."""
    if not manifests:
        raise UserError("there is no manifest yet: `soulforge intend PERSONA` asks for a harvest")
    if which is None:
        return manifests[0].digest
    wanted = which.removeprefix("sha256:")
    found = [row.digest for row in manifests if row.persona == which][:1]
    found = found or [row.digest for row in manifests if row.digest.removeprefix("sha256:").startswith(wanted)]
    if len(found) != 1:
        problem = "is the start of more than one manifest: give more of it" if found else "names no manifest"
        raise UserError(f"{which} {problem}; `soulforge manifest list` lists them")
    return found[0]


def read_manifest(settings: Settings, digest: str) -> tuple[str, ManifestFile]:
    """The manifest's file, as text and parsed. Raises UserError where it cannot be read."""
    from deploy.cli.views.manifest import ManifestFile
    from shared.storage.artifacts import Artifacts

    path = Artifacts(settings.home).manifest(digest) / "manifest.json"
    try:
        text = path.read_text(encoding="utf-8")
        return text, ManifestFile.model_validate_json(text)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read: {error}; it was pruned, moved or damaged, and the next harvest writes a new one"
        ) from error


def write_picture(picture: Path, svg: str) -> None:
    with create_file("--picture", picture) as file:
        file.write(svg)
    print_note(f"drawn in {picture}")
