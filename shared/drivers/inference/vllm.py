"""vLLM behind its OpenAI-compatible server, with adapters loaded at run time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from shared.drivers.inference.port import InferenceError, Turn

HEALTH_TIMEOUT_S = 2.0
LOAD_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 120.0


class Vllm:
    """One vLLM server. Its admin routes are unauthenticated: it must listen on a private address."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def healthy(self) -> bool:
        try:
            async with httpx.AsyncClient(base_url=self.url, timeout=HEALTH_TIMEOUT_S) as client:
                return (await client.get("/health")).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    async def models(self) -> frozenset[str]:
        listed = await self._call("GET", "/v1/models", timeout=HEALTH_TIMEOUT_S)
        return frozenset(model["id"] for model in listed["data"])

    async def load(self, name: str, path: Path) -> None:
        if name in await self.models():
            return
        # No load_inplace: it makes the worker read the adapter from disk again and again.
        await self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)}, LOAD_TIMEOUT_S)

    async def answer(self, model: str, turns: tuple[Turn, ...], max_tokens: int) -> str:
        body = {
            "model": model,
            "messages": [turn.model_dump() for turn in turns],
            "max_tokens": max_tokens,
            "temperature": 0.0,
        }
        answered = await self._call("POST", "/v1/chat/completions", body, ANSWER_TIMEOUT_S)
        return answered["choices"][0]["message"]["content"] or ""

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 10.0) -> Any:
        try:
            async with httpx.AsyncClient(base_url=self.url, timeout=timeout) as client:
                response = await client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise InferenceError(f"{method} {path} on {self.url}: {error or type(error).__name__}") from error
        if response.is_error:
            raise InferenceError(f"{method} {path} on {self.url}: HTTP {response.status_code}: {response.text[:300]}")
        return response.json() if "json" in response.headers.get("content-type", "") else response.text
