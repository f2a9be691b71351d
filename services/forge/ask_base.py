"""Ask the base for answers while it still serves, for the rituals that wait for the anvil.

Requests go through the gateway at low priority: it refuses them while anybody else asks, and ends them when somebody does.
No ritual waits for this: what is missing when it gets the anvil is made in its job.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from pydantic import BaseModel

from services.forge.replay.answers import (
    LARGEST,
    SAMPLING,
    Answer,
    answers_key,
    append_answers,
    make_answer,
    read_answers,
    unanswered,
)
from services.forge.trainer.rows import TRAIN, Row, iterate_rows
from shared.contracts.harvest import KarmaHarvested
from shared.contracts.karma import trained_turns
from shared.contracts.ritual import State
from shared.contracts.text import clean
from shared.drivers.inference.http import UNIX, Http
from shared.drivers.inference.port import LOW_PRIORITY, PRIORITY_HEADER, InferenceError
from shared.ritual import ledger
from shared.runtime.loops import Loop
from shared.storage.artifacts import Artifacts
from shared.storage.base_model import Bases
from shared.storage.postgres import UNREACHABLE

if TYPE_CHECKING:
    from pathlib import Path

    from services.forge.replay.answers import Place
    from services.forge.replay.prompts import Prompt
    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext

log = structlog.get_logger()
AT_ONCE = 8
ANSWER_WITHIN_S = 60.0
LATER = frozenset({429, 503, 504})
MARGIN = 1.1  # characters are a rough measure of tokens


class NotNow(Exception):
    """The base cannot be asked now: others ask it, it is away, or the gateway is."""


class ReplyMessage(BaseModel):
    content: str | None = None


class Choice(BaseModel):
    """One answer, of a chat (`message`) or of plain text (`text`)."""

    finish_reason: str | None = None
    message: ReplyMessage = ReplyMessage()
    text: str = ""


class Reply(BaseModel):
    choices: tuple[Choice, ...]


class BaseAnswers:
    """Brings the answers of bases to what the waiting rituals need."""

    def __init__(self, context: ServiceContext, budget_s: float) -> None:
        self.woken = asyncio.Event()
        self._context, self._budget_s = context, budget_s
        self._artifacts = Artifacts(context.settings.home)
        self._bases = Bases(context.settings, context.configuration)
        self._left_s: dict[UUID, float] = {}  #: seconds of asking that each waiting ritual still has
        self._needs: dict[UUID, int] = {}  #: characters of answers that each waiting ritual needs

    def loop(self) -> Loop:
        return Loop("replay", self.run, self._context.configuration.runtime.reconcile_s, self.woken)

    async def run(self) -> None:
        """Ask for each waiting ritual, until its base cannot be asked. An error ends the asking for its ritual alone."""
        rituals = await ledger.list_rituals(self._context.pool, State.HARVESTED)
        self._left_s = {ritual.id: self._left_s.get(ritual.id, self._budget_s) for ritual in rituals}
        self._needs = {ritual.id: self._needs[ritual.id] for ritual in rituals if ritual.id in self._needs}
        away = set[str]()
        for ritual in rituals:
            base = self._context.configuration.base_of(ritual.persona)
            if ritual.cancel_requested_at or self._left_s[ritual.id] <= 0 or base in away:
                continue
            try:
                await self._ask_for(ritual)
            except NotNow:
                away.add(base)
            except UNREACHABLE:
                raise
            except Exception:
                self._left_s[ritual.id] = 0.0
                log.exception("the base is not asked for this ritual any more", ritual=str(ritual.id))

    async def _ask_for(self, ritual: Ritual) -> None:
        """Ask for what the ritual's share needs beyond the known answers, within its budget. Raises NotNow."""
        if self._artifacts.replay_input(ritual.id).exists():
            return  # an earlier attempt has fixed its answers
        base = await self._bases.get(self._context.configuration.base_of(ritual.persona))
        path = self._artifacts.replay_answers(answers_key(base.digest))
        known = await asyncio.to_thread(read_answers, path)
        missing, places = await self._need(ritual) - _characters(known.values()), unanswered(known)
        while missing > 0 and self._left_s[ritual.id] > 0 and (group := list(islice(places, AT_ONCE))):
            began = monotonic()
            answers = await self._ask(path, base.name, group)
            self._left_s[ritual.id] -= monotonic() - began
            missing -= _characters(answers)

    async def _need(self, ritual: Ritual) -> int:
        if ritual.id not in self._needs:
            harvested = await ledger.require_fact(self._context.pool, ritual.id, KarmaHarvested)
            intent = ritual.intent
            recipe = self._context.configuration.recipe(intent.recipe, intent.persona, intent.overrides)
            trained = await asyncio.to_thread(_trained_characters, self._artifacts.manifest(harvested.manifest))
            self._needs[ritual.id] = round(recipe.replay * trained * MARGIN)
        return self._needs[ritual.id]

    async def _ask(self, path: Path, base: str, group: Sequence[tuple[Place, Prompt]]) -> list[Answer]:
        """Ask for these answers at once and keep those that come. Raises NotNow, also where only some came."""
        http = Http(f"{UNIX}{self._context.settings.door_socket}")
        asked = await asyncio.gather(*(_ask_one(http, base, *one) for one in group), return_exceptions=True)
        answers = [answer for answer in asked if isinstance(answer, Answer)]
        if answers:
            await asyncio.to_thread(append_answers, path, answers)
        for error in asked:
            if isinstance(error, BaseException):
                raise error
        return answers


async def _ask_one(http: Http, base: str, place: Place, prompt: Prompt) -> Answer:
    """Raises NotNow, or InferenceError where the request is refused for good."""
    body: dict[str, Any] = {"model": base, **SAMPLING.model_dump(), "seed": place[1]}
    path = "/v1/completions" if prompt.is_text else "/v1/chat/completions"
    asked = {"prompt": prompt.text} if prompt.is_text else {"messages": [{"role": "user", "content": prompt.text}]}
    try:
        response = await http.ask("POST", path, {**body, **asked}, ANSWER_WITHIN_S, {PRIORITY_HEADER: LOW_PRIORITY})
    except InferenceError as error:
        raise NotNow(str(error)) from error
    if response.status_code in LATER:
        raise NotNow(response.text[:200])
    if response.is_error:
        raise http.refusal(response)
    choice = Reply.model_validate_json(response.content).choices[0]
    text = choice.text if prompt.is_text else (choice.message.content or "").strip()
    return make_answer(place, clean(text), complete=choice.finish_reason == "stop")


def _characters(answers: Iterable[Answer]) -> int:
    return sum(len(answer.text or "") for answer in answers)


def _trained_characters(manifest: Path) -> int:
    """The characters of the turns that a manifest trains, as far as answers of a whole file could match them."""
    trained = 0
    for row in iterate_rows(manifest / TRAIN, Row):
        messages = row.conversation()
        trained += sum(len(json.dumps(messages[at])) for at in trained_turns(messages))
        if trained > LARGEST:
            break
    return trained
