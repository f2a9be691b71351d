"""`soulforge karma`: import records, count them, and withdraw consent to them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deploy.cli.connect import database, load_settings, make_message, publish
from deploy.cli.console import err, out, print_error, print_note
from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploy.cli.views.karma import KarmaCounts
    from shared.config.settings import Settings

PANEL = "Karma"
REQUESTER = "soulforge cli"
REVOKED_WITHIN_S = 10.0
POLL_S = 0.1
IDS_PER_MESSAGE = 1000  # at 200 characters each they stay far below what the bus takes
LONGEST_ID = 200
NO_ID = frozenset(("\0", *map(chr, range(0xD800, 0xE000))))  # what PostgreSQL cannot hold

group = typer.Typer(no_args_is_help=True, help="What the personas remember.")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="karma", rich_help_panel=PANEL)


@group.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="Records, conversations or agents' histories: JSON Lines, JSON, parquet; - is stdin."
        ),
    ],
    record_format: Annotated[
        Literal[
            "auto",
            "karma",
            "preference",
            "openai",
            "sharegpt",
            "alpaca",
            "responses",
            "gemini",
            "completion",
            "dataset",
            "open-webui",
            "pydantic-ai",
            "openhands",
            "claude-code",
            "codex",
        ],
        typer.Option("--format", help="Format of the records; auto detects that of each."),
    ] = "auto",
    persona: Annotated[
        str | None, typer.Option(metavar="NAME", help="Persona of conversations whose format names none.")
    ] = None,
    consecrated_by: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="Who vouches for these conversations. Default: they stay speculative."),
    ] = None,
    session_by: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Field of a conversation that names its session. Default: its id."),
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the number and fault of every wrong line to this new file."),
    ] = None,
) -> None:
    """Import the records of these files.

    A record whose id is known is left as it is. Wrong lines are listed by number and skipped; the exit code is 1 then.
    Records in Soulforge's own format name their persona and who vouches for them.
    """
    from deploy.cli.load import SHOWN, ImportRequest, describe_unread, load_files

    request = ImportRequest.of(record_format, persona, consecrated_by, session_by, errors)
    result = asyncio.run(load_files(load_settings(), files, request))
    for fault in result.shown:
        err.print(f"{fault.file}:{fault.line}", style="red", end=" ", soft_wrap=True)
        err.print(fault.why, soft_wrap=True)
    if result.wrong > SHOWN:
        err.print(f"… and {result.wrong - SHOWN} more wrong lines", style="red")
        print_note(f"all of them are in {errors}" if errors else "--errors FILE writes them all")
    if result.unread:
        print_note(f"fields that were not read, as they change nothing: {describe_unread(result.unread)}")
    out.print(str(result))
    raise typer.Exit(1 if result.wrong else 0)


@group.command()
def stats() -> None:
    """Count the records of every persona.

    Below: what its new white truths weigh, and how far that is from the weight at which a ritual starts by itself.
    """
    from deploy.cli.views.karma import counts_table, weights_table

    found = asyncio.run(_count(load_settings()))
    if not found.rows:
        out.print("no karma yet: `soulforge karma import FILE.jsonl`")
        return
    out.print(counts_table(found))
    if found.decisions:
        out.print()
        out.print(weights_table(found))
        if not found.enabled:
            print_note("no ritual starts by itself: `enabled = true` in [auto_trigger] of soulforge.toml turns that on")


async def _count(settings: Settings) -> KarmaCounts:
    from deploy.cli.views.karma import KarmaCounts
    from deploy.services import load_configuration
    from services.harvester.views import TriggerSettings, list_decisions, list_persona_counts

    policy = load_configuration(settings).section(TriggerSettings)
    async with database(settings) as pool:
        return KarmaCounts(await list_persona_counts(pool), await list_decisions(pool, policy), policy.enabled)


@group.command()
def revoke(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of karma records.")] = None,
    from_: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="A file with ids, one a line.")] = None,
    why: Annotated[str, typer.Option(help="Reason; kept with the revocation.")] = "",
    by: Annotated[str, typer.Option(help="Who withdraws consent.")] = REQUESTER,
) -> None:
    """Withdraw consent to records, for good.

    They are never trained on again. Shows everything that was built from them.
    """
    from deploy.cli.commands.recall import look_up, print_report

    wanted = gather_ids(ids or [], from_)
    settings = load_settings()
    waiting = asyncio.run(withdraw(settings, wanted, by, why))
    if waiting:
        print_error(
            f"the harvester did not revoke {waiting} of {len(wanted)} within {REVOKED_WITHIN_S:.0f} s. They are stored on the bus "
            "and will be revoked when it is back: see `soulforge status`, then `soulforge recall ID`"
        )
        raise typer.Exit(1)
    report = asyncio.run(look_up(settings, wanted))
    print_report(report)
    out.print(f"{len(wanted)} revoked" if len(wanted) > 1 else "revoked")
    if absent := sum(record.persona is None for record in report.records):
        print_note(f"{absent} of them not remembered here: they stay out if they are ever imported")


def gather_ids(ids: Iterable[str], file: Path | None) -> list[str]:
    """The given ids and those in the file, each once. Raises UserError where there is none, or one that cannot be an id."""
    found = [*ids, *(_ids_in(file) if file else [])]
    if not found:
        raise UserError("no id was given: name them as ID..., or --from FILE with one id a line")
    for id in found:
        if not id.strip() or len(id) > LONGEST_ID or not NO_ID.isdisjoint(id):
            raise UserError(f"{id[:40]!r} cannot be the id of a record: 1 to {LONGEST_ID} characters of UTF-8")
    return list(dict.fromkeys(found))


def _ids_in(file: Path) -> list[str]:
    try:
        found = [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise UserError(f"{file} does not exist") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UserError(f"{file} is not a text file: expected one id a line, in UTF-8") from None
    if not found:
        raise UserError(f"{file} is empty: expected one id a line")
    return found


async def withdraw(settings: Settings, ids: list[str], by: str, why: str) -> int:
    """Publish the revocation and wait, REVOKED_WITHIN_S at most; returns how many records are not revoked by then."""
    from time import monotonic

    from services.harvester.views import list_unrevoked
    from shared.contracts.karma import KarmaRevoked

    parts = (tuple(ids[start : start + IDS_PER_MESSAGE]) for start in range(0, len(ids), IDS_PER_MESSAGE))
    messages = [make_message(KarmaRevoked, {}, karma=part, by=by, why=why) for part in parts]
    async with database(settings) as pool:
        await publish(settings, *messages)
        deadline = monotonic() + REVOKED_WITHIN_S
        while (waiting := await list_unrevoked(pool, ids)) and monotonic() < deadline:
            await asyncio.sleep(POLL_S)
    return len(waiting)
