"""Ask a persona, a version of it or its base at the gateway, as any client does."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from deploy.cli.connect import database, error_text, host_port
from deploy.cli.console import print_note
from deploy.cli.errors import UserError
from deploy.cli.format import short_id
from deploy.services import load_configuration
from services.orchestrator.views import get_anvil_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.config.settings import Settings

ANSWER_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Answered:
    """An answer, and what the gateway reports of it: the model, the version, the ritual that made it, and the engine."""

    text: str
    model: str
    adapter: str | None
    ritual: str | None
    engine: str | None


async def answer(settings: Settings, persona: str, text: str, max_tokens: int, base: bool = False) -> str:
    """Ask the persona (or the base) at the gateway. Raises UserError where nothing can answer now."""
    model = load_configuration(settings).base_of(persona) if base else persona
    answered = await ask_model(settings, persona, model, text, max_tokens)
    async with _gateway(settings) as client:
        await _note_trouble(client, model)
    return answered.text


async def ask_model(settings: Settings, persona: str, model: str, text: str, max_tokens: int) -> Answered:
    """Ask a persona, or a version or the base of it, at the gateway. Raises UserError where it cannot answer now."""
    messages = [{"role": "user", "content": text}]
    asked = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0.0}
    async with _gateway(settings) as client:
        answered = await client.post("/v1/chat/completions", json=asked)
    if not answered.is_success:
        raise await _no_answer(settings, persona, answered)
    body, headers = answered.json(), answered.headers
    return Answered(
        str(body["choices"][0]["message"]["content"] or ""),
        str(body["model"]),
        *(headers.get(f"x-soulforge-{name}") for name in ("adapter", "ritual", "engine")),
    )


@asynccontextmanager
async def _gateway(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway. Raises UserError where that does not answer."""
    try:
        headers = _present_key(settings)
        async with httpx.AsyncClient(
            base_url=settings.gateway_url, headers=headers, timeout=ANSWER_TIMEOUT_S
        ) as client:
            yield client
    except httpx.HTTPError as error:
        where = host_port(settings.gateway_url)
        raise UserError(
            f"the gateway does not answer at {where} ({error_text(error)}): is the stack up? `soulforge up`"
        ) from error


def _present_key(settings: Settings) -> dict[str, str]:
    """The header with the owner's key; none where this account cannot read it: a client of this machine may chat without."""
    try:
        return {"Authorization": f"Bearer {settings.owner_key_file.read_text().strip()}"}
    except OSError:
        return {}


async def _note_trouble(client: httpx.AsyncClient, model: str) -> None:
    """Print why the persona is served by another version than its owner wants, if it is."""
    card = (await client.get(f"/v1/models/{model}")).json()
    if trouble := card["soulforge"].get("trouble"):
        print_note(f"{trouble} ({card['root']} serves in its place)")


async def _no_answer(settings: Settings, persona: str, answered: httpx.Response) -> UserError:
    """Why there is no answer: the gateway's reason, and the ritual that holds the anvil or the way to an adapter."""

    try:
        why = str(answered.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        why = f"HTTP {answered.status_code}: {answered.text[:300]}"
    if answered.status_code == httpx.codes.NOT_FOUND:
        return UserError(f"{why}; `soulforge intend {persona}` asks for an adapter, --base asks the base model")
    forge = load_configuration(settings).forge
    if answered.status_code == httpx.codes.SERVICE_UNAVAILABLE and (holder := await _get_holder(settings, forge)):
        why += f"; ritual {holder} holds {forge}, watch it: soulforge watch {holder}"
    return UserError(why)


async def _get_holder(settings: Settings, forge: str) -> str | None:
    """The ritual that holds the anvil; None where none does, or the ledger is away."""
    try:
        async with database(settings) as pool:
            anvil = await get_anvil_status(pool, forge)
    except UserError:
        return None
    return short_id(anvil.holder.ritual) if anvil.holder else None
