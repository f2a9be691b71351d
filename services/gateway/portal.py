"""The portal: another OpenAI-compatible address that answers for a persona which may leave the home, while no engine can.

Its tokens of a day (UTC) are limited. What a request may cost is charged before it is sent, and kept on disk, so that
neither requests at once nor a restart exceed the limit; what it did cost is charged after it.
"""

from __future__ import annotations

import asyncio
import stat
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import structlog

from services.gateway.forward import TAIL, find_usage, pass_on
from services.gateway.kept import Kept
from services.gateway.metrics import PORTAL_TOKENS
from shared.config.settings import SettingsError
from shared.contracts.frozen import Frozen

if TYPE_CHECKING:
    from pathlib import Path

    from services.gateway.request import Asked
    from services.gateway.settings import PortalSettings
    from shared.asgi.replies import Message, Scope, Send

BYTES_PER_TOKEN = 3  # few: an estimate must not be below what is charged
UNSTATED_TOKENS = 1024  # of each answer whose length the request does not limit
OURS = frozenset({400, 413, 422})  # refusals that are about the request; all others are about the portal
log = structlog.get_logger()


class PortalError(Exception):
    """The portal cannot answer; nothing was sent to the client."""


class Spent(Frozen):
    """The tokens of one day."""

    day: date = date.min
    tokens: int = 0


class Portal:
    """Sends requests to the portal and passes its answers on."""

    def __init__(self, home: Path, settings: PortalSettings, session: aiohttp.ClientSession) -> None:
        self.name = urlsplit(settings.url).hostname or ""
        self._settings, self._session, self._key = settings, session, _read_key(settings.key_file)
        self._file = Kept(home, "portal", Spent())
        self._spent = self._file.read()
        self._charging: set[asyncio.Future[None]] = set()

    async def answer(self, scope: Scope, send: Send, asked: Asked) -> int:
        """Let the portal answer; returns the status. Raises PortalError."""
        body = asked.body_for(self._settings.model)
        prompt = len(body) // BYTES_PER_TOKEN
        estimate = prompt + asked.estimate_tokens(UNSTATED_TOKENS)
        day = self._reserve(estimate)
        meter = _Meter(send)
        used = 0
        try:
            await self._keep()
            used = estimate  # what a request cost whose client leaves before its answer begins is not known
            answer = await self._ask(scope["path"], body)
            try:
                return await pass_on(answer, meter, [("x-soulforge-portal", self.name)], "")
            finally:
                used = meter.count_tokens(prompt)
        except PortalError:
            used = 0
            raise
        finally:  # apart from the request, which its client may end now
            charging = asyncio.ensure_future(self._charge(used - estimate, day))
            self._charging.add(charging)
            charging.add_done_callback(self._charging.discard)

    async def _ask(self, path: str, body: bytes) -> aiohttp.ClientResponse:
        url = self._settings.url.rstrip("/") + path.removeprefix("/v1")
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "authorization": f"Bearer {self._key}",
        }
        try:
            answer = await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("portal not reached", portal=self.name, error=str(error) or type(error).__name__)
            raise PortalError(f"the portal {self.name} is not reached") from error
        if answer.status >= 300 and answer.status not in OURS:
            answer.close()
            log.warning("portal refused", portal=self.name, status=answer.status)
            raise PortalError(f"the portal {self.name} refused ({answer.status})")
        return answer

    def _reserve(self, tokens: int) -> date:
        """Charge them, and return the day. Raises PortalError where too few are left."""
        today = datetime.now(UTC).date()
        spent = self._spent.tokens if self._spent.day == today else 0
        if spent + tokens > self._settings.daily_tokens:
            log.warning("portal's tokens of the day are spent", portal=self.name, spent=spent, needed=tokens)
            raise PortalError(
                f"the tokens of the day for the portal {self.name} are spent (gateway.portal.daily_tokens)"
            )
        self._spent = Spent(day=today, tokens=spent + tokens)
        return today

    async def _keep(self) -> None:
        try:
            await self._file.write(self._spent)
        except OSError as error:
            raise PortalError(f"what the portal costs cannot be kept ({error})") from error

    async def _charge(self, tokens: int, day: date) -> None:
        """Charge so many tokens of a day more, or fewer; nothing where that day is over."""
        if day == self._spent.day:
            self._spent = self._spent.model_copy(update={"tokens": self._spent.tokens + tokens})
        PORTAL_TOKENS.set(self._spent.tokens)
        with suppress(OSError):  # the estimate stays charged
            await self._file.write(self._spent)


class _Meter:
    """Counts what passes through `send`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._tail = b""
        self._bytes = self._events = 0

    async def __call__(self, message: Message) -> None:
        body = message.get("body", b"")
        self._bytes += len(body)
        self._events += body.count(b"data: ")
        self._tail = (self._tail + body)[-TAIL:]
        await self._send(message)

    def count_tokens(self, prompt: int) -> int:
        """The tokens that the answer reports; else those of the prompt, as estimated, and one per event or so many bytes."""
        if usage := find_usage(self._tail):
            return usage["prompt"] + usage["completion"]
        return prompt + (self._events or self._bytes // BYTES_PER_TOKEN)


def _read_key(file: Path) -> str:
    """Raises SettingsError where the key cannot be read, or others can read it."""
    try:
        mode = file.stat().st_mode
        key = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"gateway.portal.key_file: {file} cannot be read ({error})") from error
    if stat.S_IMODE(mode) & 0o077:
        raise SettingsError(f"gateway.portal.key_file: others can read {file}: run `chmod 600 {file}`")
    if not key or not key.isascii() or not key.isprintable():
        raise SettingsError(f"gateway.portal.key_file: {file} must have the key, on one line")
    return key
