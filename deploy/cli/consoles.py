"""Where the commands write: answers to stdout, so that they can be piped; everything else to stderr."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def complain(message: str) -> None:
    """One red line, however the message was wrapped."""
    err.print(f"[bold red]error:[/] [red]{escape(' '.join(message.split()))}[/]", soft_wrap=True)


def note(message: str) -> None:
    err.print(f"[dim]{escape(message)}[/]", soft_wrap=True)
