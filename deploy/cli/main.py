"""The `soulforge` command: its groups of commands, and what its exit code means.

Commands import what is heavy only when they run, so that `--help` is instant.
"""

from __future__ import annotations

import logging
import os
import sys

import typer

from deploy.cli.commands import (
    adapters,
    anvil,
    compare,
    config,
    consecrate,
    control,
    dead_letters,
    decide,
    explain,
    intend,
    karma,
    keys,
    manifest,
    prune,
    recall,
    report,
    rituals,
    runes,
    stack,
    verify,
    watch,
)
from deploy.cli.console import print_error, print_note
from deploy.cli.errors import user_text
from shared.contracts.visible import visible

INTERNAL_FAULT = 70  # EX_SOFTWARE of sysexits.h
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
consecrate.register(app)
explain.register(app)
recall.register(app)
manifest.register(app)
intend.register(app)
control.register(app)
watch.register(app)
rituals.register(app)
report.register(app)
anvil.register(app)
adapters.register(app)
decide.register(app)
compare.register(app)
verify.register(app)
keys.register(app)
dead_letters.register(app)
prune.register(app)


def main() -> None:
    """Run the command line and exit: 0 done, 1 not done, 2 wrong usage, 70 a fault of this program, 130 interrupted."""
    os.umask(0o077)  # what a command writes is for its own account
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    # What libraries log is for services: a command prints what went wrong itself.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        code = app(arguments, prog_name="soulforge", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except typer.TyperException as usage:
        if text := usage_text(usage):
            print_error(text)
        return usage.exit_code
    except Exception as error:
        if (message := user_text(error)) is None:
            return _report_fault(error)
        print_error(message)
        return 1
    return code if isinstance(code, int) else 0


def usage_text(usage: typer.TyperException) -> str:
    """What was wrong with the usage, and which help to read; empty where the help itself was shown."""
    context = getattr(usage, "ctx", None)
    command = context.command_path if context else "soulforge"
    message = usage.format_message().rstrip(".")
    return f"{message} (see `{command} --help`)" if message else ""


def _report_fault(error: Exception) -> int:
    """Write the traceback to a file and name it."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="soulforge-fault-", suffix=".txt", delete=False) as file:
        file.write(visible("".join(traceback.format_exception(error))))
    print_error(f"a fault in soulforge itself: {type(error).__name__}: {error}")
    print_note(f"its traceback is in {file.name}")
    return INTERNAL_FAULT


if __name__ == "__main__":
    main()
