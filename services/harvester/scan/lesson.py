"""What a conversation teaches: its trained part, given its prompt; and which conversations it goes on from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from services.harvester.scan.minhash import BANDS, bands
from services.harvester.scan.normalise import DIGEST_BYTES, TURN, fold
from services.harvester.scan.tokens import drop_fillers, read_call, read_indents, read_tokens
from shared.contracts.karma import trained_turns

Message = Mapping[str, Any]


BANDS_OF_LESSON = 2 * BANDS + 1


@dataclass(frozen=True, slots=True)
class Lesson:
    """The tokens of what is trained and of all before and between it; a token begins each turn.

    `digest` is equal for conversations that train the same, letter case of prose and white space aside.
    """

    digest: bytes
    system: str
    prompt: tuple[str, ...]
    trained: tuple[str, ...]

    def bands(self) -> list[int]:
        """MinHash bands of all of it, of its trained part, and one that lessons with the same prompt share."""
        prompt = sha256("\0".join(self.prompt).encode("utf-8", "replace")).digest()
        return [*bands((*self.prompt, *self.trained)), *bands(self.trained), int.from_bytes(prompt[:8], signed=True)]


def read_lesson(messages: Sequence[Message]) -> Lesson:
    turns, hashed = trained_turns(messages), sha256()
    parts: dict[bool, list[str]] = {True: [], False: []}
    for at, message in enumerate(messages):
        if message["role"] == "system":
            continue
        text = message.get("content") or ""
        words, exact = read_tokens(text), [*read_indents(text), *_read_calls(message)]
        folded = "".join(fold(text).casefold().split())
        part = [chr(TURN[message["role"]]), *(drop_fillers(words) or filter(None, [folded])), *exact]
        parts[at in turns] += part
        hashed.update("\0".join((str(at in turns), part[0], folded, *words, *exact)).encode("utf-8", "replace"))
    system = " ".join(message.get("content") or "" for message in messages if message["role"] == "system")
    return Lesson(hashed.digest()[:DIGEST_BYTES], " ".join(system.split()), tuple(parts[False]), tuple(parts[True]))


def digest_beginnings(messages: Sequence[Message], tools: str) -> list[tuple[int, int]]:
    """(how many messages, a 64-bit digest) of each part from the beginning to an answer or a call that may be trained, tools included.

    The last one is the whole conversation; of two conversations that one goes on from the other they are equal so far.
    """
    hashed, beginnings = sha256(tools.encode("utf-8", "replace")), []
    for at, message in enumerate(messages, 1):
        content = (message.get("content") or "").strip()
        calls = _canonical_calls(message)
        fields = (message["role"], content, message.get("name"), message.get("tool_call_id"), *calls)
        so_far = hashed.copy()
        hashed.update(repr((fields, message.get("weight"))).encode("utf-8", "replace"))
        so_far.update(repr(fields).encode("utf-8", "replace"))
        if message["role"] == "assistant" and (content or calls) and message.get("weight") != 0:
            beginnings.append((at, int.from_bytes(so_far.digest()[:8], signed=True)))
    return beginnings


def _read_calls(message: Message) -> Iterator[str]:
    for call in _canonical_calls(message):
        yield from read_call(call)


def _canonical_calls(message: Message) -> list[str]:
    """Name and arguments of each call, in one form whatever the order of keys and the white space between them."""
    functions = [call.get("function") for call in message.get("tool_calls") or ()]
    return [
        f"{function.get('name', '')} {_canonical(function.get('arguments', ''))}"
        for function in functions
        if isinstance(function, dict)
    ]


def _canonical(arguments: Any) -> str:
    try:
        value = orjson.loads(arguments) if isinstance(arguments, str) else arguments
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONDecodeError, TypeError):
        return str(arguments)
