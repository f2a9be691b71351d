"""What commands write to: answers to stdout, so that they can be piped; everything else to stderr; files that options name.

All text passes here, and most of it comes from outside: here control characters are made visible. Nothing else in the
command line writes to a stream.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO

import rich.text
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from deploy.cli.errors import UserError
from shared.contracts.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PIPED_WIDTH = 160  # a table in a pipe is not cut to the width of a terminal

# Rich drops some control characters from a text and lets others through. Here they are visible before it is measured.
rich.text.strip_control_codes = visible  # type: ignore[attr-defined, assignment]


class SafeConsole(Console):
    """A console that only sends a terminal the control sequences that rich makes: colours and movements of the cursor.

    No text is markup: what is styled is given as `Text`, or with a style.
    """

    def __init__(self, stderr: bool = False, **options: Any) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


out = SafeConsole()
if not out.is_terminal:
    out.width = PIPED_WIDTH
err = SafeConsole(stderr=True)


def print_error(message: str) -> None:
    """Print an error in red; one line, or several for an error that names several faults."""
    err.print(Text.assemble(("error:", "bold red"), " ", (message.strip(), "red")), soft_wrap=True)


def print_note(message: str) -> None:
    """Print a dim line beside the answer."""
    err.print(message, style="dim", soft_wrap=True)


def print_plain(line: str) -> None:
    """Print a line without styles: `soulforge up --detach` parses what `up` prints."""
    print(visible(line), file=sys.stderr, flush=True)


def print_text(text: str) -> None:
    """Print an answer as text: no line of it is wrapped, no tab expanded."""
    print(visible(text), flush=True)


def print_json(document: object) -> None:
    """Print an answer as JSON in ASCII, in which every other character is escaped."""
    out.print_json(data=document, ensure_ascii=True)


def create_file(option: str, path: Path) -> TextIO:
    """Create the file that an option names. Raises UserError; a file that exists is the user's and never overwritten."""
    try:
        return path.open("x", encoding="utf-8")
    except FileExistsError:
        raise UserError(f"{option}: {path} exists and is not overwritten: name a new file") from None
    except OSError as error:
        raise UserError(f"{option}: {path} cannot be written: {error.strerror}") from error
