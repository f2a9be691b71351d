"""`soulforge karma revoke`: consent is withdrawn on the bus, as any other component would, and what it touched is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import bus, database, load_settings
from deploy.cli.console import out, print_error, print_note
from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.settings import Settings

ASKER = "soulforge cli"
DONE_WITHIN_S = 10.0
POLL_S = 0.1
IDS_SAID = 1000  # ids of one message: at 200 characters each they stay far below what the bus takes
LONGEST_ID = 200


def register(group: typer.Typer) -> None:
    group.command()(revoke)


def revoke(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Ids of karma records.")] = None,
    from_: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="A file with ids, one a line.")] = None,
    why: Annotated[str, typer.Option(help="Why; kept with the revocation.")] = "",
    by: Annotated[str, typer.Option(help="Who withdraws consent.")] = ASKER,
) -> None:
    """Withdraw consent to records, for good.

    Said on the bus. They are never trained on again, and everything that was built from them is shown.
    """
    import asyncio

    from deploy.cli.commands.recall import look_up, show

    wanted = gather(ids or [], from_)
    settings = load_settings()
    waiting = asyncio.run(withdraw(settings, wanted, by, why))
    if waiting:
        print_error(
            f"the harvester did not enter {waiting} of {len(wanted)} within {DONE_WITHIN_S:.0f} s. They are stored on the bus "
            "and will be revoked when it is back: see `soulforge status`, then `soulforge recall ID`"
        )
        raise typer.Exit(1)
    report = asyncio.run(look_up(settings, wanted))
    show(report)
    out.print(f"{len(wanted)} revoked" if len(wanted) > 1 else "revoked")
    if absent := sum(record.persona is None for record in report.records):
        print_note(f"{absent} of them not remembered here: they stay out if they ever come")


def gather(ids: Iterable[str], file: Path | None) -> list[str]:
    """The ids given and those in the file, each once. Raises UserError where there is none, or one that can be no id."""
    found = [*ids, *(_ids_in(file) if file else [])]
    if not found:
        raise UserError("no id was given: `soulforge karma revoke ID...` or --from FILE with one id a line")
    for id in found:
        if not id.strip() or len(id) > LONGEST_ID or "\0" in id:
            raise UserError(f"{id[:40]!r} can be no id of a record: 1 to {LONGEST_ID} characters")
    return list(dict.fromkeys(found))


def _ids_in(file: Path) -> list[str]:
    from deploy.cli.import_formats.reader import check_file

    check_file(file)
    try:
        return [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UserError(f"{file} is not a text file: expected one id a line, in UTF-8") from None


async def withdraw(settings: Settings, ids: list[str], by: str, why: str) -> int:
    """Say it on the bus and wait until it is done, DONE_WITHIN_S at most. Returns how many are not."""
    import asyncio
    from time import monotonic

    from deploy.cli.queries.karma import list_unrevoked

    async with database(settings) as pool:
        await _publish(settings, ids, by, why)
        deadline = monotonic() + DONE_WITHIN_S
        while (waiting := await list_unrevoked(pool, ids)) and monotonic() < deadline:
            await asyncio.sleep(POLL_S)
    return len(waiting)


async def _publish(settings: Settings, ids: list[str], by: str, why: str) -> None:
    from uuid import uuid4

    async with bus(settings) as client:
        for start in range(0, len(ids), IDS_SAID):
            message = _message(ids[start : start + IDS_SAID], by, why)
            await client.jetstream().publish(
                "karma.revoked", message, headers={"Nats-Msg-Id": str(uuid4()), "Content-Type": "application/json"}
            )


def _message(ids: list[str], by: str, why: str) -> bytes:
    from pydantic import ValidationError

    from shared.contracts.karma import KarmaRevoked

    try:
        return KarmaRevoked(karma=tuple(ids), by=by, why=why).model_dump_json().encode()
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        raise UserError(f"{problem['loc'][0]} cannot be used: {problem['msg']}") from error
