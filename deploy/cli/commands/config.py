"""`soulforge config`: check `soulforge.toml`, show the configuration in effect, and print examples."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import load_settings
from deploy.cli.console import out, print_json, print_note, print_text
from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from shared.config.model import Configuration
    from shared.config.settings import Settings

PANEL = "Stack"
File = Annotated[Path | None, typer.Argument(metavar="FILE", help="Default: the file that is in use.")]

group = typer.Typer(no_args_is_help=True, help="The configuration: everything that is decided in soulforge.toml.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="config", rich_help_panel=PANEL)


@group.command()
def check(file: File = None) -> None:
    """Check the configuration and show what it means.

    A wrong file is refused with the key and the reason of every fault. Whether this machine can isolate its jobs is shown,
    too; the exit code is about the file alone, that of `soulforge doctor` about the machine.
    """
    from deploy.cli.views.config import config_view
    from deploy.cli.views.status import finding_line
    from deploy.embedded.preflight import get_isolation_finding

    settings = load_settings()
    configuration = _read(settings, file)
    print_note(f"{_source(settings, file)} is valid; this is what it means")
    isolation = asyncio.run(get_isolation_finding(settings, configuration))
    out.print(config_view(configuration, settings))
    out.print()
    out.print(finding_line(isolation), soft_wrap=True)


@group.command()
def show(
    file: File = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of TOML.")] = False,
) -> None:
    """Show the whole configuration in effect, defaults included.

    It can be used as a file again; only passwords are left out.
    """
    from deploy.cli.views.config import effective_values, to_toml

    settings = load_settings()
    values = effective_values(_read(settings, file), settings)
    print_note(f"from {_source(settings, file)}")
    if as_json:
        print_json(values)
    else:
        print_text(to_toml(values).rstrip("\n"))


@group.command()
def example(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Default: list the examples.")] = None,
) -> None:
    """Print an annotated example of a configuration."""
    from shared.config.settings import PROJECT

    found = {path.stem: path for path in sorted((PROJECT / "examples" / "soulforge").glob("*.toml"))}
    if name is None:
        for stem, path in found.items():
            print_text(f"{stem:<14}{_first_line(path)}")
        return
    if name not in found:
        raise UserError(f"there is no example {name}; there are: {', '.join(found)}")
    print_text(found[name].read_text(encoding="utf-8").rstrip("\n"))


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


def _read(settings: Settings, file: Path | None) -> Configuration:
    from deploy.services import SECTIONS, load_configuration
    from shared.config.load import read

    return read(file, settings, SECTIONS) if file else load_configuration(settings)


def _source(settings: Settings, file: Path | None) -> str:
    from shared.config.load import find

    path = file or find(settings)
    return str(path) if path else "the built-in configuration (there is no soulforge.toml)"
