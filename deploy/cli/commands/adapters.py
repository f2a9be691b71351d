"""`soulforge adapters` and `soulforge ask`: the versions in the Crypt, and what they answer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, error_text, host_port, load_settings
from deploy.cli.console import out, print_note, print_text
from deploy.cli.errors import UserError
from deploy.cli.format import ago, short_digest, short_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from rich.text import Text

    from deploy.cli.queries.gateway import VersionUse
    from services.registry.views import RegisteredVersion
    from shared.config.settings import Settings

PANEL = "Adapters"
ANSWER_TIMEOUT_S = 120.0


group = typer.Typer()


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="adapters", rich_help_panel=PANEL)
    app.command(rich_help_panel=PANEL)(ask)


@group.callback(invoke_without_command=True)
def adapters(context: typer.Context) -> None:
    """List every persona's versions, or decide about them."""
    from rich.table import Table

    if context.invoked_subcommand:
        return
    settings = load_settings()
    versions, uses = asyncio.run(_list(settings))
    if not versions:
        out.print("no adapter yet: `soulforge intend PERSONA` asks for one")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("persona", "version", "serves as", "role", "loaded in", "requests", "last used"):
        table.add_column(name, overflow="fold")
    for name in ("base", "registered", "ritual", "bundle"):
        table.add_column(name, overflow="fold")
    for version in versions:
        origin = short_digest(version.base), ago(version.registered_at), short_id(version.ritual)
        now = _serves(version), ", ".join(version.roles), *_use(version, uses)
        table.add_row(version.persona, version.name, *now, *origin, version.bundle)
    out.print(table)
    for version in versions:
        if version.fault:
            out.print(f"{version.name} does not serve: {version.fault}", style="red", soft_wrap=True)


def _use(version: RegisteredVersion, uses: dict[str, VersionUse]) -> tuple[str, str, str]:
    """Where it is loaded, how often it was asked since the gateway started, and when last."""
    use = uses.get(version.name)
    if use is None:
        return ", ".join(version.loaded), "", ""
    return ", ".join(use.loaded), str(use.requests), ago(use.last_used) if use.last_used else ""


def _serves(version: RegisteredVersion) -> Text:
    from rich.text import Text

    if version.serves:
        return Text(version.persona, "green")
    return Text("cannot serve" if version.fault else "", "red")


async def _list(settings: Settings) -> tuple[list[RegisteredVersion], dict[str, VersionUse]]:
    """The versions, and their use; without the gateway, where they are loaded is as the registry found it last."""
    from deploy.cli.queries.gateway import get_version_table
    from services.registry.views import list_versions

    async with database(settings) as pool:
        versions = await list_versions(pool)
    try:
        return versions, (await get_version_table(settings)).versions if versions else {}
    except UserError as error:
        print_note(str(error))
        return versions, {}


def ask(
    persona: Annotated[str, typer.Argument(help="The persona whose adapter answers.")],
    text: Annotated[str, typer.Argument(help="The prompt.")],
    max_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer, in tokens.")] = 200,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model instead, to compare.")] = False,
) -> None:
    """Ask a persona and print its answer.

    Greedy and without a system prompt. Only the answer goes to stdout.
    """
    print_text(asyncio.run(answer(load_settings(), persona, text, max_tokens, base)))


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
    from deploy.services import load_configuration

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
    import httpx

    try:
        async with httpx.AsyncClient(base_url=settings.gateway_url, timeout=ANSWER_TIMEOUT_S) as client:
            yield client
    except httpx.HTTPError as error:
        where = host_port(settings.gateway_url)
        raise UserError(
            f"the gateway does not answer at {where} ({error_text(error)}): is the stack up? `soulforge up`"
        ) from error


async def _note_trouble(client: httpx.AsyncClient, model: str) -> None:
    """Print why the persona is served by another version than its owner wants, if it is."""
    card = (await client.get(f"/v1/models/{model}")).json()
    if trouble := card["soulforge"].get("trouble"):
        print_note(f"{trouble} ({card['root']} serves in its place)")


async def _no_answer(settings: Settings, persona: str, answered: httpx.Response) -> UserError:
    """Why there is no answer: the gateway's reason, and the ritual that holds the anvil or the way to an adapter."""
    import httpx

    from deploy.services import load_configuration

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
    from services.orchestrator.views import get_anvil_status

    try:
        async with database(settings) as pool:
            anvil = await get_anvil_status(pool, forge)
    except UserError:
        return None
    return short_id(anvil.holder.ritual) if anvil.holder else None
