"""`soulforge up`, `down`, `status`, `doctor`, `migrate`: the stack as a whole."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from deploy.cli.connect import host_port, load_settings
from deploy.cli.console import out, print_plain
from deploy.cli.errors import UserError

PANEL = "Stack"


def register(app: typer.Typer) -> None:
    for command in (up, down, status, doctor, migrate):
        app.command(rich_help_panel=PANEL)(command)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once all is up; the stack runs in the background.")
    ] = False,
) -> None:
    """Start the whole embedded stack.

    PostgreSQL, NATS, Phoenix, the five services and the rune (vLLM). In the foreground; Ctrl-C stops all of it.
    """
    from deploy.embedded import stack

    if detach:
        stack.start_detached(load_settings(), print_plain)
    else:
        raise typer.Exit(stack.run(load_settings(), print_plain))


def down() -> None:
    """Stop the embedded stack.

    A ritual under way continues at the next `soulforge up`.
    """
    from deploy.embedded import stack

    stack.stop(load_settings(), print_plain)


def status() -> None:
    """Show the state of every part, and the rituals under way.

    Whether each service is ready and why not, what the rune serves, which ritual holds the anvil, and which persona is not
    served by its adapter. Exit code 0 only when every part can do its job.
    """
    from deploy.cli.queries.stack import get_stack_status
    from deploy.cli.views.status import anvil_findings, persona_findings, status_view

    settings = load_settings()
    found = asyncio.run(get_stack_status(settings))
    findings = (*anvil_findings(settings, found), *persona_findings(found))
    out.print(status_view(found, findings))
    raise typer.Exit(0 if all(finding.ok for finding in (*found.parts, *findings)) else 1)


def doctor() -> None:
    """Check whether this machine has all that the stack needs.

    Software, isolation of jobs, GPU driver, disk, ports and the modes of secrets, each with what to do. Exit code 0 only
    when nothing is missing. Nothing is started or changed.
    """
    from deploy.cli.views.status import finding_line
    from deploy.embedded.doctor import diagnose

    findings = asyncio.run(diagnose(load_settings()))
    for finding in findings:
        out.print(finding_line(finding), soft_wrap=True)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def migrate() -> None:
    """Bring database and bus to this version.

    Applies the missing migrations and creates streams and consumers. Safe to repeat; `soulforge up` does it by itself.
    """
    from deploy import bootstrap
    from deploy.home import claim

    settings = load_settings()
    if line := claim(settings.home):
        print_plain(line)
    where = f"PostgreSQL at {host_port(settings.database_url('bootstrap'))}, NATS at {host_port(settings.nats_url)}"
    try:
        applied = asyncio.run(bootstrap.prepare(settings))
    except TimeoutError as error:
        raise UserError(f"{error}: is the stack up? `soulforge up` ({where})") from error
    for name in applied:
        out.print(f"applied {name}")
    out.print("database and bus are up to date" if applied else "nothing to apply: database and bus are up to date")
