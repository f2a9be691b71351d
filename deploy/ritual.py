"""`make ritual`: one whole ritual from nothing, as a user would run it.

Start the stack, import karma, publish an intent, watch, ask base and adapter side by side, stop the stack.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import nats
import typer
from nats.aio.msg import Msg
from rich.table import Table
from rich.text import Text

from deploy.cli.console import out
from deploy.embedded import stack
from deploy.embedded.preflight import PreflightError
from deploy.embedded.state import LockError
from deploy.home import HomeError
from deploy.services import load_configuration
from services.registry.views import list_aliases
from shared.config.settings import PROJECT, Settings
from shared.contracts.intent import TrainingIntent
from shared.contracts.roles import Role
from shared.drivers.inference.open import open_rune
from shared.drivers.inference.port import InferenceError, PromptMessage, Serving
from shared.messaging.client import connect
from shared.storage.postgres import open_pool

ANSWER_TOKENS = 80
REPLY_S = 20
# What has nothing to do with a persona must be answered as the base does.
GENERAL = ("What is the capital of France?", "Name three things that float.")
# Prompts that are in no karma record, by persona.
UNSEEN = {
    "scribe": (
        "Note about the bicycle shed: the lock is rusty and two bikes have no owner.",
        "Short summary please, the choir practice: the tenor was ill, the new hall is too warm.",
        "Reply to Mara about the ladder: it is lent until Friday, the top rung is loose.",
    ),
    "coder": (
        "Start a new branch tide-tables.",
        "Read captain out of ferry.json.",
        "Python function harbour_of_ships that lists the harbour of each.",
    ),
}


def main(
    persona: Annotated[str, typer.Argument(help=f"One of {', '.join(UNSEEN)}.")] = "scribe",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack up afterwards.")] = False,
) -> None:
    """Run one whole ritual. Exit code 0 only when the adapter was promoted by the verdict and answered."""
    if persona not in UNSEEN:
        raise typer.Exit(
            _print_error(f"there is no example karma of {persona!r}; PERSONA is one of {', '.join(UNSEEN)}")
        )
    os.umask(0o077)  # what it writes is for its own account
    settings = Settings()
    started = time.monotonic()
    found_up = bool(stack.status(settings))
    try:
        if not found_up:
            stack.start_detached(settings, _print_note)
        code = _ritual(settings, persona)
    except (HomeError, PreflightError, LockError, InferenceError) as error:
        code = _print_error(str(error))
    if not keep and not found_up:
        stack.stop(settings, _print_note)
    _print_note(f"{time.monotonic() - started:.0f} s in all")
    raise typer.Exit(code)


def _ritual(settings: Settings, persona: str) -> int:
    if code := _soulforge("karma", "import", str(PROJECT / "examples" / "karma" / f"{persona}.jsonl")):
        return code
    answer = asyncio.run(publish(settings, {"persona": persona, "requested_by": "make ritual"}))
    if "ritual" not in answer:
        return _print_error(f"the intent was refused: {answer.get('error', answer)}")
    out.print(f"intent published on {TrainingIntent.subject}; it opened ritual {answer['ritual']}")
    if code := _soulforge("watch", answer["ritual"]):
        return code
    asyncio.run(_side_by_side(settings, persona))
    command = f'soulforge ask {persona} "{UNSEEN[persona][0]}"'
    out.print(Text.assemble("\nask it yourself: ", (command, "bold")))
    return 0


async def publish(settings: Settings, intent: dict[str, Any]) -> dict[str, Any]:
    """Request a ritual as any component does: repeated with the same id until it is answered. Returns the reply."""
    body = json.dumps({"id": f"ritual-{uuid4()}", **intent}).encode()
    client = await connect(settings, Role.PUBLISHER)
    try:
        for wait_s in (1, 2, 4):
            with suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
                return _answer(await client.request(TrainingIntent.subject, body, timeout=REPLY_S))
            await asyncio.sleep(wait_s)
        return _answer(await client.request(TrainingIntent.subject, body, timeout=REPLY_S))
    finally:
        await client.close()


def _answer(reply: Msg) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


async def _side_by_side(settings: Settings, persona: str) -> None:
    """Print the answers of base and adapter to prompts that are in no record, from the same engine."""
    pool = await open_pool(settings.database_url("owner"), "public", size=1)
    version = (await list_aliases(pool))[persona]
    await pool.close()
    configuration = load_configuration(settings)
    base = configuration.base_of(persona)
    rune = open_rune(configuration, settings, configuration.serving_rune(persona))
    table = Table("prompt", base, version, title="unseen prompts, the persona's and others", show_lines=True)
    for prompt in (*UNSEEN[persona], *GENERAL):
        table.add_row(prompt, *(await _answers(rune, prompt, (base, version))))
    out.print(table)


async def _answers(inference: Serving, prompt: str, models: tuple[str, ...]) -> list[str]:
    messages = (PromptMessage(role="user", content=prompt),)
    return list(await asyncio.gather(*(inference.answer(model, messages, ANSWER_TOKENS) for model in models)))


def _soulforge(*arguments: str) -> int:
    """Run a command of the command line; returns its exit code."""
    return subprocess.run([str(Path(sys.executable).with_name("soulforge")), *arguments], check=False).returncode


def _print_note(line: str) -> None:
    out.print(line, style="dim")


def _print_error(line: str) -> int:
    out.print(line, style="red")
    return 1


if __name__ == "__main__":
    typer.run(main)
