"""The `soulforge` command: every part of the house that a person handles.

Commands import what is heavy only when they run, so that `--help` is instant.
"""

from __future__ import annotations

import logging
import sys

import typer

from deploy.cli.commands import (
    adapters,
    anvil,
    config,
    dead_letters,
    intend,
    karma,
    manifest,
    recall,
    rituals,
    runes,
    stack,
    watch,
)
from deploy.cli.console import print_error, print_note
from deploy.cli.errors import user_text

FAULT = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130

app = typer.Typer(
    name="soulforge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Turn what a persona got right into an adapter that serves it: harvest karma, train, verify, awaken.",
    epilog="A first ritual: soulforge up --detach · soulforge karma import examples/karma/scribe.jsonl · "
    "soulforge intend scribe · soulforge watch",
)
stack.register(app)
config.register(app)
runes.register(app)
karma.register(app)
recall.register(app)
manifest.register(app)
intend.register(app)
watch.register(app)
rituals.register(app)
anvil.register(app)
adapters.register(app)
dead_letters.register(app)


def main() -> None:
    """Run the command line and exit: 0 done, 1 not done, 2 wrong usage, 70 a fault of this program, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """The exit code of one command."""
    # What libraries log is for services: a command says itself what went wrong.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        code = app(words, prog_name="soulforge", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except typer.TyperException as usage:
        if wrong := usage_line(usage):
            print_error(wrong)
        return usage.exit_code
    except Exception as error:
        if line := user_text(error):
            print_error(line)
            return 1
        return _fault(error)
    return code if isinstance(code, int) else 0


def usage_line(usage: typer.TyperException) -> str:
    """What was wrong with the words, and where the right ones are told; empty where the help itself was shown."""
    context = getattr(usage, "ctx", None)
    where = context.command_path if context else "soulforge"
    message = usage.format_message().rstrip(".")
    return f"{message} (see `{where} --help`)" if message else ""


def _fault(error: Exception) -> int:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="soulforge-fault-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    print_error(f"soulforge itself is at fault: {type(error).__name__}: {error}")
    print_note(f"where it happened is written in {file.name}")
    return FAULT


if __name__ == "__main__":
    main()
