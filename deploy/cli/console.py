"""Where the commands write: answers to stdout, so that they can be piped; everything else to stderr."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape

PIPED_WIDTH = 160  # a table in a pipe is not cut to the width of a terminal

out = Console(highlight=False)
if not out.is_terminal:
    out.width = PIPED_WIDTH
err = Console(stderr=True, highlight=False)


def complain(message: str) -> None:
    """What went wrong, in red; one line, but for errors that name several faults, each on a line of its own."""
    err.print(f"[bold red]error:[/] [red]{escape(message.strip())}[/]", soft_wrap=True)


def note(message: str) -> None:
    err.print(f"[dim]{escape(message)}[/]", soft_wrap=True)


def announce(line: str) -> None:
    """A line of the stack's own, bare: `soulforge up --detach` reads what `up` announces."""
    print(line, file=sys.stderr, flush=True)
