"""`soulforge intend` and `soulforge cancel`: what a person says on the bus, as any other component would."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

import typer

from deploy.cli.connect import bus, database, load_settings
from deploy.cli.console import out, print_error, print_note
from deploy.cli.errors import UserError
from deploy.cli.format import parse_duration, short_id

if TYPE_CHECKING:
    from nats.aio.client import Client

    from shared.contracts.intent import TrainingIntent
    from shared.settings import Settings

PANEL = "Rituals"
REPLY_WITHIN_S = 10.0
ASKER = "soulforge cli"


def register(app: typer.Typer) -> None:
    for command in (intend, cancel):
        app.command(rich_help_panel=PANEL)(command)


def intend(
    persona: Annotated[str, typer.Argument(help="Whose consecrated karma is trained.")],
    priority: Annotated[int, typer.Option(help="0 to 9; higher goes first among waiting rituals.")] = 5,
    recipe: Annotated[str, typer.Option(help="Name of a shipped training recipe.")] = "default",
    seed: Annotated[int, typer.Option(help="Seed of the training run.")] = 0,
    id: Annotated[
        str | None, typer.Option(help="Your own id of this intent; the same id twice makes one ritual.")
    ] = None,
    within: Annotated[
        str, typer.Option(metavar="TIME", help="Inference should serve again after it by then, e.g. 8h.")
    ] = "",
    why: Annotated[str, typer.Option(help="Why now; kept with the ritual.")] = "",
) -> None:
    """Ask for a ritual: train, verify, awaken.

    The intent goes over the bus, as any other component would send it. Prints the ritual's id.
    """
    import asyncio

    wanted = {"deadline": datetime.now(UTC) + timedelta(seconds=parse_duration(within))} if within else {}
    intent = intent_of(
        persona=persona, priority=priority, recipe=recipe, seed=seed, id=id or f"cli-{uuid4()}", why=why, **wanted
    )
    answer = asyncio.run(say(load_settings(), intent))
    if answer.ritual is None:
        print_error(answer.text)
        raise typer.Exit(1)
    out.print(answer.ritual)
    print_note(answer.text)
    raise typer.Exit(0 if answer.admitted else 1)


@dataclass(frozen=True)
class Answer:
    """What came of an intent. `ritual` is None when there will be none."""

    ritual: str | None
    admitted: bool
    text: str


def intent_of(**values: Any) -> TrainingIntent:
    """The intent, or a UserError that names the option which is wrong."""
    from pydantic import ValidationError

    from shared.contracts.intent import TrainingIntent

    try:
        return TrainingIntent(requested_by=ASKER, **values)
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        name = str(problem["loc"][0])
        raise UserError(f"{name} {values[name]!r} cannot be used: {problem['msg']}") from error


async def say(settings: Settings, intent: TrainingIntent) -> Answer:
    """Ask on the bus and wait for the harvester, REPLY_WITHIN_S at most."""
    from nats.errors import NoRespondersError
    from nats.errors import TimeoutError as NoReply

    body = intent.model_dump_json(exclude_defaults=True).encode()
    async with bus(settings) as client:
        try:
            reply = await client.request(intent.subject, body, timeout=REPLY_WITHIN_S)
        except NoRespondersError as error:
            raise UserError(
                f"nothing keeps {intent.subject} on the bus: run `soulforge migrate`, then intend again"
            ) from error
        except NoReply:
            return await _unanswered(client, intent, body)
    return answer_of(json.loads(reply.data))


def answer_of(reply: dict[str, Any]) -> Answer:
    if problem := reply.get("error"):
        return Answer(None, False, f"the harvester refused the intent: {problem.get('description', problem)}")
    ritual = str(reply["ritual"])
    return Answer(
        ritual, True, f"ritual opened for {reply['persona']}; watch it: soulforge watch {short_id(UUID(ritual))}"
    )


async def _unanswered(client: Client, intent: TrainingIntent, body: bytes) -> Answer:
    """No answer in time: say whether the bus kept the intent, and under which id its ritual will be opened."""
    from nats.js.errors import Error

    from shared.contracts.message import ritual_id
    from shared.streams import INTENTS

    silent = f"the harvester did not answer within {REPLY_WITHIN_S:.0f} s"
    try:
        last = await client.jetstream().get_last_msg(INTENTS, intent.subject)
    except Error:
        last = None
    if last is None or last.data != body:
        return Answer(
            None,
            False,
            f"{silent}, and it is not certain that the intent was stored: see `soulforge status`, then intend again",
        )
    text = f"{silent}. The intent is stored on the bus and will be taken when the harvester is back: see `soulforge status`"
    return Answer(str(ritual_id(intent.id or "")), False, text)


def cancel(
    ritual: Annotated[str, typer.Argument(help="The ritual, by the first digits of its id.")],
    why: Annotated[str, typer.Option(help="Why; kept with the ritual.")] = "",
) -> None:
    """Ask that a ritual ends.

    It stops at its next safe point, keeps its record, and inference comes back.
    """
    import asyncio

    found = asyncio.run(ask_to_cancel(load_settings(), ritual, why))
    out.print(f"asked ritual {short_id(found)} to end; watch it: soulforge watch {short_id(found)}")


async def ask_to_cancel(settings: Settings, given: str, why: str) -> UUID:
    """Publish `ritual.cancel` for a ritual that is under way. Raises UserError for one that ended."""
    from deploy.cli.queries.rituals import find_ritual, get_ritual

    async with database(settings) as pool:
        ritual = await find_ritual(pool, given)
        row = await get_ritual(pool, ritual)
    if row is None or row["ended_at"]:
        state = row["state"] if row else "gone"
        raise UserError(f"ritual {short_id(ritual)} is {state} already: there is nothing to cancel")
    if row["cancel_requested_at"]:
        raise UserError(f"ritual {short_id(ritual)} was asked to end already; it stops at its next safe point")
    await _publish_cancel(settings, ritual, why)
    return ritual


async def _publish_cancel(settings: Settings, ritual: UUID, why: str) -> None:
    from shared.contracts.intent import RitualCancel

    message = RitualCancel(ritual=ritual, why=why)
    async with bus(settings) as client:
        await client.jetstream().publish(
            message.subject, message.model_dump_json().encode(), headers={"Nats-Msg-Id": str(uuid4())}
        )
