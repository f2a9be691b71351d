"""`soulforge intend`: a message on the bus, as any other component would send it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID, uuid4

import typer

from deploy.cli.connect import bus, load_settings, make_message
from deploy.cli.console import out, print_error, print_note
from deploy.cli.errors import UserError
from deploy.cli.format import parse_duration, short_id

if TYPE_CHECKING:
    from nats.aio.client import Client

    from shared.config.settings import Settings
    from shared.contracts.intent import TrainingIntent

PANEL = "Rituals"
REPLY_WITHIN_S = 10.0
REQUESTER = "soulforge cli"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(intend)


def intend(
    persona: Annotated[str, typer.Argument(help="The persona to train on its consecrated karma.")],
    priority: Annotated[int, typer.Option(help="0 to 9; higher goes first among waiting rituals.")] = 5,
    recipe: Annotated[str, typer.Option(help="Name of a training recipe, shipped or your own.")] = "default",
    seed: Annotated[int, typer.Option(help="Seed of the training run.")] = 0,
    source: Annotated[
        list[str] | None, typer.Option(help="Only karma of this source; may be given more than once.")
    ] = None,
    id: Annotated[
        str | None, typer.Option(help="Your own id of this intent; the same id twice makes one ritual.")
    ] = None,
    within: Annotated[
        str,
        typer.Option(metavar="TIME", help="Time within which inference should serve again after the ritual, e.g. 8h."),
    ] = "",
    why: Annotated[str, typer.Option(help="Reason; kept with the ritual.")] = "",
) -> None:
    """Ask for a ritual: train, verify, awaken.

    The intent goes over the bus, as any other component would send it. Prints the ritual's id.
    """
    from shared.contracts.intent import TrainingIntent

    intent = make_message(
        TrainingIntent,
        {"persona": "PERSONA", "deadline": "--within", "sources": "--source"},
        persona=persona,
        priority=priority,
        recipe=recipe,
        seed=seed,
        sources=tuple(source or ()),
        id=id or f"cli-{uuid4()}",
        why=why,
        deadline=datetime.now(UTC) + timedelta(seconds=parse_duration(within)) if within else None,
        requested_by=REQUESTER,
    )
    result = asyncio.run(request_ritual(load_settings(), intent))
    if result.ritual is None:
        print_error(result.text)
        raise typer.Exit(1)
    out.print(str(result.ritual))
    print_note(result.text)
    raise typer.Exit(0 if result.admitted else 1)


@dataclass(frozen=True)
class IntentResult:
    """What came of an intent. `ritual` is None when there will be none."""

    ritual: UUID | None
    admitted: bool
    text: str


async def request_ritual(settings: Settings, intent: TrainingIntent) -> IntentResult:
    """Publish the intent and wait for the harvester's reply, REPLY_WITHIN_S at most."""
    from nats.errors import NoRespondersError
    from nats.errors import TimeoutError as NoReply

    body = intent.model_dump_json(exclude_defaults=True).encode()
    async with bus(settings) as client:
        try:
            reply = await client.request(intent.subject, body, timeout=REPLY_WITHIN_S)
        except NoRespondersError as error:
            raise UserError(
                f"no stream on the bus stores {intent.subject}: run `soulforge migrate`, then intend again"
            ) from error
        except NoReply:
            return await _without_reply(client, intent, body)
    return parse_reply(reply.data)


def parse_reply(data: bytes) -> IntentResult:
    """Parse the harvester's reply: the ritual, or why it refused the intent."""
    reply = json.loads(data)
    if problem := reply.get("error"):
        return IntentResult(None, False, f"the harvester refused the intent: {problem.get('description', problem)}")
    ritual = UUID(reply["ritual"])
    text = f"ritual opened for {reply['persona']}; watch it: soulforge watch {short_id(ritual)}"
    return IntentResult(ritual, True, text)


async def _without_reply(client: Client, intent: TrainingIntent, body: bytes) -> IntentResult:
    """The result without a reply: whether the bus stored the intent, and which ritual it will open."""
    from nats.js.errors import Error

    from shared.contracts.message import ritual_id
    from shared.messaging.streams import INTENTS

    no_reply = f"the harvester did not reply within {REPLY_WITHIN_S:.0f} s"
    try:
        last = await client.jetstream().get_last_msg(INTENTS, intent.subject)
    except Error:
        last = None
    if last is None or last.data != body:
        text = (
            f"{no_reply}, and it is not certain that the intent was stored: see `soulforge status`, then intend again with "
            f"--id {intent.id}, which opens no second ritual"
        )
        return IntentResult(None, False, text)
    text = f"{no_reply}. The intent is stored on the bus and will be taken when the harvester is back: see `soulforge status`"
    return IntentResult(ritual_id(intent.id or ""), False, text)
