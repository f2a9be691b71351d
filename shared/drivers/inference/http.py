"""Requests to an engine: each with a connection and a deadline of its own, so that nothing is held between two."""

from __future__ import annotations

import time
from functools import cache
from ssl import SSLContext
from typing import Any

import httpx

from shared.drivers.inference.gate import key as engine_key
from shared.drivers.inference.port import InferenceError

INSIDE = {"soulforge-inside": "1"}


class Http:
    """HTTP client of one engine, whose requests are signed with `key`. Those marked `inside` pass a closed gate."""

    def __init__(self, url: str, key: str | None = None, inside: bool = False) -> None:
        self.url = url
        self._key = key
        self._marks = INSIDE if inside else {}

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 10.0) -> Any:
        """The engine's answer, parsed where it is JSON. Raises InferenceError when there is none, or an error."""
        response = await self.ask(method, path, body, timeout)
        if response.is_error:
            raise refusal(response)
        return response.json() if "json" in response.headers.get("content-type", "") else response.text

    async def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 10.0
    ) -> httpx.Response:
        """The engine's answer, whatever its status. Raises InferenceError when there is none."""
        headers = self._headers(method, path.partition("?")[0])
        try:
            async with httpx.AsyncClient(
                base_url=self.url, timeout=timeout, headers=headers, verify=_certificates()
            ) as client:
                return await client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise InferenceError(f"{method} {path} on {self.url}: {error or type(error).__name__}") from error

    def _headers(self, method: str, path: str) -> dict[str, str]:
        # The gate takes JSON only, also where there is no body.
        headers = {"content-type": "application/json", **self._marks}
        if self._key:
            headers[engine_key.HEADER] = engine_key.sign(self._key, method, path, time.time())
        return headers


def refusal(response: httpx.Response) -> InferenceError:
    asked = response.request
    return InferenceError(f"{asked.method} {asked.url}: HTTP {response.status_code}: {response.text[:300]}")


@cache
def _certificates() -> SSLContext:
    """Load the certificates once: that takes longer than a request to an engine on this machine."""
    return httpx.create_ssl_context()
