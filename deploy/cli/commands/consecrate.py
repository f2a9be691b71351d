"""`soulforge karma consecrate|reject|correct`: what becomes of records that are remembered, named one by one."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.commands.karma import IDS_PER_MESSAGE, NO_ID, REQUESTER, gather_ids, group
from deploy.cli.connect import database, load_settings, make_message, publish
from deploy.cli.console import out
from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.config.settings import Settings
    from shared.contracts.karma import KarmaRecord, Status
    from shared.contracts.message import Message
    from shared.storage.postgres import Pool

WITHIN_S = 10.0
POLL_S = 0.1
ID_DIGITS = 16

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of karma records.")]
From = Annotated[Path | None, typer.Option("--from", metavar="FILE", help="A file with ids, one a line.")]
Sources = Annotated[
    list[str] | None, typer.Option("--source", metavar="SOURCE", help="In place of ids: all speculative records of it.")
]
Why = Annotated[str, typer.Option(help="Reason; kept with the record.")]


def register(_: typer.Typer) -> None:
    for command in (consecrate, reject, correct):
        group.command()(command)


def consecrate(
    by: Annotated[str, typer.Option("--by", metavar="WHO", help="Who vouches for these records.")],
    ids: Ids = None,
    from_: From = None,
    sources: Sources = None,
    persona: Annotated[str | None, typer.Option(help="With --source: only the records of this persona.")] = None,
    why: Why = "",
) -> None:
    """Vouch for records, so that they are trained on.

    For speculative and rejected ones; a revoked one stays out for good. With --source: for all speculative ones of it.
    """
    if sources and (ids or from_):
        raise UserError("--source and ids are both given: name the records by one of them")
    if persona and not sources:
        raise UserError("--persona is for --source only: an id is of one persona")
    named, settings = [] if sources else gather_ids(ids or [], from_), load_settings()

    async def run() -> tuple[int, int]:
        async with database(settings) as pool:
            wanted = await _list_speculative(pool, sources, persona) if sources else named
            parts = [wanted[at : at + IDS_PER_MESSAGE] for at in range(0, len(wanted), IDS_PER_MESSAGE)]
            return len(wanted), sum([await _consecrate(settings, pool, part, by, why) for part in parts])

    wanted, changed = asyncio.run(run())
    out.print(f"{changed} consecrated, {wanted - changed} already")


async def _list_speculative(pool: Pool, sources: Sequence[str], persona: str | None) -> list[str]:
    """The ids of the records of these sources. Raises UserError where there is none."""
    from services.harvester.views import list_speculative

    if any(not NO_ID.isdisjoint(text) for text in (*sources, persona or "")):
        raise UserError("a source, or the persona, is not text that a record can hold")
    if found := await list_speculative(pool, sources, persona):
        return found
    whose = f" of {persona}" if persona else ""
    raise UserError(f"no speculative record{whose} has the source {', '.join(sources)}: see `soulforge karma stats`")


async def _consecrate(settings: Settings, pool: Pool, ids: Sequence[str], by: str, why: str) -> int:
    """Vouch for these records; returns how many were no white truths. Raises UserError where one is revoked."""
    from shared.contracts.karma import KarmaConsecrated, Status

    known = await _read(pool, ids)
    if revoked := [id for id, record in known.items() if record.status is Status.REVOKED]:
        raise UserError(f"{_named(revoked)} revoked: a revoked record stays out for good")
    chosen = [record for record in known.values() if record.status is not Status.WHITE_TRUTH]
    changes = {"status": Status.WHITE_TRUTH, "consecrated_by": by, "consecrated_at": None}
    changes |= {"why": why} if why else {}
    messages = [
        make_message(KarmaConsecrated, {"consecrated_by": "--by"}, **{**dict(record), **changes}) for record in chosen
    ]
    await _send(settings, pool, messages, [record.id for record in chosen], Status.WHITE_TRUTH)
    return len(chosen)


def reject(
    ids: Ids = None,
    from_: From = None,
    by: Annotated[str, typer.Option(help="Who rejects them.")] = REQUESTER,
    why: Why = "",
) -> None:
    """Mark speculative records as not to be trained.

    `karma consecrate ID` takes one back by name.
    """
    from shared.contracts.karma import KarmaRejected, Status

    wanted, settings = gather_ids(ids or [], from_), load_settings()

    async def run() -> int:
        async with database(settings) as pool:
            known = await _read(pool, wanted)
            if vouched := [id for id, record in known.items() if record.status is Status.WHITE_TRUTH]:
                raise UserError(f"{_named(vouched)} consecrated: `soulforge karma revoke` withdraws that, for good")
            chosen = [id for id, record in known.items() if record.status is Status.SPECULATIVE]
            parts = (tuple(chosen[at : at + IDS_PER_MESSAGE]) for at in range(0, len(chosen), IDS_PER_MESSAGE))
            messages = [make_message(KarmaRejected, {}, karma=part, by=by, why=why) for part in parts]
            await _send(settings, pool, messages, chosen, Status.REJECTED)
            return len(chosen)

    changed = asyncio.run(run())
    out.print(f"{changed} rejected, {len(wanted) - changed} already")


def correct(
    id: Annotated[str, typer.Argument(metavar="ID", help="The record whose answer is corrected.")],
    answer: Annotated[Path, typer.Argument(metavar="FILE", help="A text file with the right answer; - is stdin.")],
    by: Annotated[str, typer.Option("--by", metavar="WHO", help="Who vouches for the answer.")],
    why: Why = "",
) -> None:
    """Give the right answer in place of a record's.

    It is a new white truth, whose parent is that record. Prints its id.
    """
    from shared.contracts.karma import KarmaConsecrated, Status

    text = _text(answer)
    settings = load_settings()

    async def run() -> str:
        async with database(settings) as pool:
            [record] = (await _read(pool, [id])).values()
            if record.status is Status.REVOKED:
                raise UserError(f"{id} is revoked: a revoked record stays out for good, and what corrects it too")
            if record.messages[-1].content == text and not record.messages[-1].tool_calls:
                raise UserError(f"that is the answer of {id} already: `soulforge karma consecrate {id}` vouches for it")
            message = make_message(
                KarmaConsecrated,
                {"consecrated_by": "--by", "messages": "FILE"},
                id=f"correction-{hashlib.sha256(f'{id} {text}'.encode()).hexdigest()[:ID_DIGITS]}",
                parent=id,
                messages=(*record.messages[:-1], {"role": "assistant", "content": text}),
                consecrated_by=by,
                why=why,
                **{
                    name: getattr(record, name)
                    for name in ("persona", "session", "source", "licence", "kind", "tools", "purposes")
                },
            )
            await _send(settings, pool, [message], [message.id], Status.WHITE_TRUTH)
            return message.id

    out.print(asyncio.run(run()))


async def _read(pool: Pool, ids: Sequence[str]) -> dict[str, KarmaRecord]:
    """The records of these ids. Raises UserError where one is not remembered, or breaks the contract."""
    from pydantic import ValidationError

    from services.harvester.views import list_karma

    try:
        known = await list_karma(pool, ids)
    except ValidationError as error:
        raise UserError(
            "one of these records breaks the contract of karma, so that it cannot be sent: see `soulforge show`"
        ) from error
    if missing := [id for id in ids if id not in known]:
        raise UserError(f"{_named(missing)} not remembered: `soulforge karma import` or check the id")
    return known


async def _send(
    settings: Settings, pool: Pool, messages: Sequence[Message], ids: Sequence[str], status: Status
) -> None:
    """Publish the messages and wait until the records have that status. Raises UserError where that takes too long."""
    from time import monotonic

    from services.harvester.views import list_karma

    if not messages:
        return
    await publish(settings, *messages)
    deadline = monotonic() + WITHIN_S
    while waiting := [
        id for id in ids if id not in (found := await list_karma(pool, ids)) or found[id].status is not status
    ]:
        if monotonic() > deadline:
            raise UserError(
                f"the harvester did not take {len(waiting)} of {len(ids)} within {WITHIN_S:.0f} s. They are stored on the bus and are "
                "taken when it is back: see `soulforge status` and `soulforge dead-letters list`"
            )
        await asyncio.sleep(POLL_S)


def _text(file: Path) -> str:
    import sys

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as text in UTF-8: {error}") from error
    if not text.strip():
        raise UserError(f"{file} is empty: expected the right answer")
    if "\0" in text:
        raise UserError(f"{file} is no text: it holds a NUL character")
    return text.rstrip("\n")


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"{', '.join(ids[:3])}{more} {'are' if len(ids) > 1 else 'is'}"
