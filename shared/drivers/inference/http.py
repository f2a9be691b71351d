"""Requests to an engine or the gateway: each with a connection and a deadline of its own, so that nothing is held between two."""

from __future__ import annotations

from functools import cache
from ssl import SSLContext
from typing import Any

import httpx

from shared.drivers.inference.port import InferenceError

UNIX = "unix://"


class Http:
    """HTTP client of one server, at `http://…` or on the Unix socket `unix:///…`."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 10.0) -> Any:
        """The server's answer, parsed where it is JSON. Raises InferenceError when there is none, or an error."""
        response = await self.ask(method, path, body, timeout)
        if response.is_error:
            raise self.refusal(response)
        return response.json() if "json" in response.headers.get("content-type", "") else response.text

    async def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout: float = 10.0,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """The server's answer, whatever its status. Raises InferenceError when there is none."""
        try:
            async with self._client(timeout) as client:
                return await client.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise InferenceError(f"{method} {path} on {self.url}: {error or type(error).__name__}") from error

    def refusal(self, response: httpx.Response) -> InferenceError:
        asked = response.request
        path = asked.url.raw_path.decode()
        return InferenceError(
            f"{asked.method} {path} on {self.url}: HTTP {response.status_code}: {response.text[:300]}"
        )

    def _client(self, timeout: float) -> httpx.AsyncClient:
        if self.url.startswith(UNIX):
            transport = httpx.AsyncHTTPTransport(uds=self.url.removeprefix(UNIX), verify=_certificates())
            return httpx.AsyncClient(base_url="http://localhost", timeout=timeout, transport=transport)
        return httpx.AsyncClient(base_url=self.url, timeout=timeout, verify=_certificates())


@cache
def _certificates() -> SSLContext:
    """Load the certificates once: that takes longer than a request to an engine on this machine."""
    return httpx.create_ssl_context()
