"""A client's request: read once within limits, parsed once, and written again with nothing but the model's name replaced."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from json.scanner import py_make_scanner  # type: ignore[attr-defined]  # left out of the types
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from services.gateway.errors import RETRY_AFTER_S, Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

    from services.gateway.settings import GatewaySettings
    from shared.asgi.replies import Receive, Scope

C = TypeVar("C", bound=BaseModel)
T = TypeVar("T")

BODIES = 16  # of the largest size that may be held at once
LARGE = 64 * 1024  # bytes; what is larger is parsed in a thread, while the loop goes on
PARSER = ThreadPoolExecutor(1, "parser")  # one: it shares the interpreter's lock with the loop


class Gone(Exception):
    """The client closed its connection before its request was complete."""


class Bodies:
    """Reads the bodies of requests; all that are under way have a limit together, since each is kept for another try."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._largest, self._within_s = int(settings.max_body), settings.read_within_s
        self.held = 0

    @contextmanager
    def hold(self) -> Iterator[_Body]:
        """A body that counts until the block ends."""
        body = _Body()
        try:
            yield body
        finally:
            self.held -= body.size

    async def read(self, body: _Body, scope: Scope, receive: Receive) -> None:
        """Read the whole body. Raises Refusal where it is too large or too slow, Gone where the client left."""
        if declared_length(scope) > self._largest:
            self._refuse_size()
        try:
            async with asyncio.timeout(self._within_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    self._add(body, message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refusal(
                408, "request_timeout", f"the body did not arrive within {self._within_s:g} s", unread=True
            ) from None

    async def parse(self, request: Request, kind: type[C]) -> C:
        """Read a command. Raises Refusal where it is none."""
        try:
            with self.hold() as body:
                await self.read(body, request.scope, request.receive)
                data = body.take()
        except Gone:
            raise Refusal(400, "incomplete_body", "the connection was closed before the body's end") from None
        try:
            return kind.model_validate(await parse(parse_object, data))
        except ValidationError as wrong:
            first = wrong.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            why = first["msg"].removeprefix("Value error, ")
            raise Refusal(400, "invalid_command", f"{where or 'the body'}: {why}", param=where or None) from None

    def _add(self, body: _Body, chunk: bytes) -> None:
        if body.size + len(chunk) > self._largest:
            self._refuse_size()
        if self.held + len(chunk) > BODIES * self._largest:
            raise Refusal(503, "busy", "too many large requests at once", RETRY_AFTER_S, unread=True)
        body.data += chunk
        body.size += len(chunk)
        self.held += len(chunk)

    def _refuse_size(self) -> NoReturn:
        raise Refusal(
            413, "request_too_large", f"a request may have {self._largest} bytes (gateway.max_body)", unread=True
        )


def declared_length(scope: Scope) -> int:
    """The length of the body by its head, 0 where it names none. Raises Refusal where the body may be read in two ways."""
    headers = [name for name, _ in scope["headers"]]
    if headers.count(b"content-length") + headers.count(b"transfer-encoding") > 1:
        raise Refusal(400, "ambiguous_length", "send Content-Length or Transfer-Encoding, once", unread=True)
    if b"content-encoding" in headers:
        raise Refusal(415, "encoded_body", "send the body without Content-Encoding", unread=True)
    return int(next((value for name, value in scope["headers"] if name == b"content-length"), b"0"))


class _Body:
    """The bytes of one request. `size` counts also once they are taken, for what is parsed of them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0

    def take(self) -> bytes:
        data, self.data = bytes(self.data), bytearray()
        return data


class Asked:
    """A parsed request: the model that it names, and what to send in its place."""

    def __init__(self, body: bytes, decoder: type[json.JSONDecoder] = json.JSONDecoder) -> None:
        self._fields = parse_object(body, decoder)
        model = self._fields.get("model")
        if not isinstance(model, str) or not model:
            raise Refusal(
                400,
                "invalid_model",
                "`model` must be the name of a model, as text (GET /v1/models lists them)",
                param="model",
            )
        self.model: str = model

    def estimate_tokens(self, unstated: int) -> int:
        """The tokens that all its answers have at most; where it does not limit them, `unstated` for each."""
        each = self._largest("max_completion_tokens", "max_tokens", "max_output_tokens") or unstated
        prompt = self._fields.get("prompt")
        prompts = len(prompt) if isinstance(prompt, list) and not isinstance((prompt or [0])[0], int) else 1
        return each * (self._largest("n", "best_of") or 1) * prompts

    def _largest(self, *names: str) -> int:
        """The largest of the fields that are counts; 0 where none is."""
        found = (self._fields.get(name) for name in names)
        return max((value for value in found if isinstance(value, int) and value > 0), default=0)

    def body_for(self, model: str) -> bytes:
        """The body that asks an engine for `model`. Raises Refusal for values that JSON cannot hold everywhere."""
        try:
            return orjson.dumps({**self._fields, "model": model})
        except (TypeError, ValueError) as error:  # half a surrogate pair, an integer beyond 64 bits, too deep
            raise _invalid(str(error)) from None


async def parse(kind: Callable[[bytes, type[json.JSONDecoder]], T], body: bytes) -> T:
    """Parse a body with `kind`, a large one in a thread. Raises Refusal."""
    if len(body) <= LARGE:
        return kind(body, json.JSONDecoder)
    return await asyncio.get_running_loop().run_in_executor(PARSER, kind, body, _Yielding)


class _Yielding(json.JSONDecoder):
    """Walks objects and arrays in Python, where other threads get their turn: in C, 4 MiB of them are one long turn."""

    def __init__(self, **hooks: Any) -> None:
        super().__init__(**hooks)
        self.scan_once = py_make_scanner(self)


def parse_object(body: bytes, decoder: type[json.JSONDecoder]) -> dict[str, Any]:
    """The fields of a body of JSON. Raises Refusal."""
    # Not orjson: of a key that comes twice it keeps the last, without a word.
    try:
        found = json.loads(
            body, cls=decoder, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise _invalid("it is nested too deep" if isinstance(error, RecursionError) else str(error)) from None
    if not isinstance(found, dict):
        raise _invalid("it must be an object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


def _invalid(why: str) -> Refusal:
    return Refusal(400, "invalid_json", f"the body is not a request: {why}")
