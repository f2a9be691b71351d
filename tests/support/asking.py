"""Clients of the gateway that take note of everything: who answered, when, and whether the answer was whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx

from shared.config.settings import Settings
from tests.support.fakes.vllm_answers import words

TOKENS = 6
PROMPT = "hello"


@dataclass(frozen=True)
class Reply:
    """What came of a request. `code` is that of the error, also of one that ends a stream; `version` who answered.

    `broken`: it ended without an answer, or with part of one and no error.
    """

    asked: str
    status: int
    version: str | None
    code: str | None
    text: str
    began: float
    ended: float
    broken: str | None = None
    retry_after: str | None = None
    portal: str | None = None

    @property
    def answered(self) -> bool:
        return self.status == 200 and self.code is None and self.broken is None


def answer_of(model: str, tokens: int = TOKENS) -> str:
    """What a small engine answers as `model`, and as no other."""
    return " ".join(words(model, json.dumps([{"role": "user", "content": PROMPT}], sort_keys=True), tokens))


async def ask(client: httpx.AsyncClient, model: str, streamed: bool = False, tokens: int = TOKENS) -> Reply:
    """Ask once; never raises for what the gateway does."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": tokens,
        "stream": streamed,
    }
    began = monotonic()
    try:
        answer = await client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        return Reply(model, 0, None, None, "", began, monotonic(), broken=repr(error))
    headers = answer.headers
    text, code, broken = _read(answer, streamed)
    version = headers.get("x-soulforge-adapter")
    if not (code or broken) and version and text != answer_of(version, tokens):
        broken = f"{text!r} is no answer of {version}"
    return Reply(
        model,
        answer.status_code,
        version,
        code,
        text,
        began,
        monotonic(),
        broken,
        headers.get("retry-after"),
        headers.get("x-soulforge-portal"),
    )


def _read(answer: httpx.Response, streamed: bool) -> tuple[str, str | None, str | None]:
    """The text, the code of its error, and what is wrong with its form."""
    if answer.status_code != 200:
        return "", str(answer.json()["error"]["code"]), None
    if not streamed:
        return str(answer.json()["choices"][0]["message"]["content"]), None, None
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        return "", None, f"the stream ends with {events[-1:]}"
    found: list[dict[str, Any]] = [json.loads(event) for event in events[:-1]]
    codes = [str(event["error"]["code"]) for event in found if "error" in event]
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in found if "choices" in event)
    return text, codes[0] if codes else None, None


def clients_of(settings: Settings) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=settings.gateway_url, timeout=60)


def owner_of(settings: Settings) -> httpx.AsyncClient:
    """What commands the gateway by its control socket."""
    transport = httpx.AsyncHTTPTransport(uds=str(settings.gateway_control_socket))
    return httpx.AsyncClient(base_url="http://gateway", transport=transport, timeout=20)
