"""The gate before one engine: it is in the gateway, the only way of clients to it, and commanded on the gateway's control socket.

GET  /engines/{rune}         the state and its counts
POST /engines/{rune}/close   {"reason": …, "retry_after_s": …}: refuse new requests, finish those in flight
POST /engines/{rune}/open    admit requests again
POST /engines/{rune}/abort   abort the requests in flight; the answer has their number
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from shared.drivers.inference.http import Http
from shared.drivers.inference.port import RETRY_AFTER_S, Admission, InferenceError

TIMEOUT_S = 5.0
ABORT_TIMEOUT_S = 30.0


class Gate:
    """The gateway's gate before the engine of `rune`; `url` is that of the gateway's control socket."""

    def __init__(self, url: str, rune: str) -> None:
        self._http = Http(url)
        self._path = f"/engines/{rune}"

    async def admission(self) -> Admission:
        return await self._call("GET", "")

    async def close(self, reason: str, retry_after_s: float = RETRY_AFTER_S) -> Admission:
        return await self._call("POST", "/close", {"reason": reason, "retry_after_s": retry_after_s})

    async def open(self) -> Admission:
        return await self._call("POST", "/open")

    async def abort(self) -> int:
        return (await self._call("POST", "/abort", timeout=ABORT_TIMEOUT_S)).aborted

    async def _call(
        self, method: str, command: str, body: dict[str, Any] | None = None, timeout: float = TIMEOUT_S
    ) -> Admission:
        answer = await self._http.call(method, self._path + command, body, timeout)
        try:
            return Admission.model_validate(answer)
        except ValidationError as error:
            raise InferenceError(f"{method} {self._path}{command} on {self._http.url}: {error}") from error
