"""What commands write to: answers to stdout, so that they can be piped; everything else to stderr; files that options name."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.markup import escape

from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

PIPED_WIDTH = 160  # a table in a pipe is not cut to the width of a terminal

out = Console(highlight=False)
if not out.is_terminal:
    out.width = PIPED_WIDTH
err = Console(stderr=True, highlight=False)


def print_error(message: str) -> None:
    """Print an error in red; one line, or several for an error that names several faults."""
    err.print(f"[bold red]error:[/] [red]{escape(message.strip())}[/]", soft_wrap=True)


def print_note(message: str) -> None:
    """Print a dim line beside the answer."""
    err.print(f"[dim]{escape(message)}[/]", soft_wrap=True)


def print_plain(line: str) -> None:
    """Print a line without styles: `soulforge up --detach` parses what `up` prints."""
    print(line, file=sys.stderr, flush=True)


def create_file(option: str, path: Path) -> TextIO:
    """Create the file that an option names. Raises UserError; a file that exists is the user's and never overwritten."""
    try:
        return path.open("x", encoding="utf-8")
    except FileExistsError:
        raise UserError(f"{option}: {path} exists and is not overwritten: name a new file") from None
    except OSError as error:
        raise UserError(f"{option}: {path} cannot be written: {error.strerror}") from error
