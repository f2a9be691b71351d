"""`soulforge report`: a page and a model card about one ritual, for people who were not there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.commands.manifest import read_manifest
from deploy.cli.commands.rituals import PANEL, get_known
from deploy.cli.connect import load_settings
from deploy.cli.console import create_file, print_note
from deploy.cli.errors import UserError
from deploy.cli.format import short_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.cli.queries.rituals import Snapshot
    from deploy.cli.views.manifest import ManifestFile
    from deploy.cli.views.page.content import Page
    from services.verifier.answers import Answers, Results
    from shared.config.settings import Settings

SHOWN = 40  #: answers side by side


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(report)


def report(
    ritual: Annotated[str, typer.Argument(help="The ritual, by the first digits of its id.")],
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A new folder for the files. Default: report-RITUAL.")
    ] = None,
    holdout_texts: Annotated[
        bool, typer.Option("--holdout-texts", help="Also show the answers to the sealed holdout.")
    ] = False,
) -> None:
    """Write a page and a model card about a ritual.

    The page (report.html) needs no other file and fetches nothing: the verdict with its evidence, flips, loss, data,
    downtime, digests. The card is README.md. Without --holdout-texts no text of the sealed holdout is in them.
    """
    from deploy.cli.views.page.render import PAGE, render

    settings = load_settings()
    page = _gather(settings, ritual, holdout_texts)
    folder = to or Path(f"report-{short_id(page.report.ritual)}")
    write_report(folder, render(page))
    print_note(f"written: {folder / PAGE}")


def _gather(settings: Settings, given: str, holdout_texts: bool) -> Page:
    from deploy.cli.queries.curve import read_curve
    from deploy.cli.views.page.content import build_page
    from deploy.cli.views.report import build_report
    from services.verifier.answers import list_sealed
    from shared.storage.artifacts import Artifacts

    snapshot, excluded, contradictions = asyncio.run(get_known(settings, given))
    known = build_report(snapshot, excluded, settings.phoenix_url, contradictions)
    curve = read_curve(Artifacts(settings.home), known.ritual)
    results = _results(snapshot)
    if holdout_texts and results is None:
        raise UserError("--holdout-texts: there are no answers to the sealed holdout; leave the option out")
    return build_page(
        snapshot,
        known,
        curve,
        _manifest(settings, known.digests.get("manifest")),
        _general(settings, results) if results else (),
        list_sealed(results)[:SHOWN] if results and holdout_texts else (),
    )


def _general(settings: Settings, results: Results) -> list[Answers]:
    """The answers to general prompts that flipped or bleed, with the prompts where the suites can be read."""
    from deploy.services import load_configuration
    from services.verifier.answers import list_general
    from shared.config.errors import ConfigurationError
    from shared.storage.suites import load_suites

    try:
        suites = load_suites(load_configuration(settings).suites)
    except ConfigurationError as error:
        print_note(f"general prompts are named by their ids: {error}")
        suites = {}
    return [one for one in list_general(results, suites) if one.bleeds or one.flipped][:SHOWN]


def _manifest(settings: Settings, digest: str | None) -> ManifestFile | None:
    """The manifest; None where there is none, or none any more."""
    try:
        return read_manifest(settings, digest)[1] if digest else None
    except UserError as error:
        print_note(str(error))
        return None


def _results(snapshot: Snapshot) -> Results | None:
    """What the evaluator measured; None where it did not come so far, or where that was pruned."""
    from services.verifier.answers import read_results
    from shared.contracts.verify import Judged
    from shared.storage.untrusted import OutputError

    judged = [recorded.fact for recorded in snapshot.facts if isinstance(recorded.fact, Judged)]
    try:
        return read_results(Path(judged[-1].results)) if judged else None
    except OutputError as error:
        print_note(f"no answers are shown: {error}; it was pruned or moved")
        return None


def write_report(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files to a new folder. Raises UserError; one that exists is the user's and never overwritten."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"--to: {folder} exists and is not overwritten: name a new folder") from None
    except OSError as error:
        raise UserError(f"--to: {folder} cannot be made: {error.strerror}") from error
    for name, text in files.items():
        with create_file("--to", folder / name) as file:
            file.write(text)
