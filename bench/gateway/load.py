"""A load of clients that ask one request after the other, and what they measured."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp
import orjson

from shared.drivers.inference.http import UNIX

CHAT = "/v1/chat/completions"
CLIENTS = 8
_numbers = itertools.count()  # no two prompts are the same: an engine keeps what it computed


@dataclass
class Sample:
    """Seconds of every request of a round, until its first byte and until its end."""

    first_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    round_s: float = 0.0

    @property
    def per_s(self) -> float:
        return len(self.whole_s) / self.round_s


@dataclass(frozen=True)
class Place:
    """Where to ask for which model: at `http://…`, or at the socket `unix:///…`."""

    name: str
    url: str
    model: str

    def open(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=300)
        if self.url.startswith(UNIX):
            connector = aiohttp.UnixConnector(self.url.removeprefix(UNIX))
            return aiohttp.ClientSession("http://localhost", connector=connector, timeout=timeout)
        return aiohttp.ClientSession(self.url, timeout=timeout)


async def measure(place: Place, requests: int, max_tokens: int, streamed: bool, clients: int = CLIENTS) -> Sample:
    """One round. Raises where a request fails."""
    sample = Sample()
    turns = iter(range(requests))
    async with place.open() as session:
        began = time.perf_counter()
        await asyncio.gather(*(_ask_on(session, place, turns, sample, max_tokens, streamed) for _ in range(clients)))
        sample.round_s = time.perf_counter() - began
    return sample


async def _ask_on(
    session: aiohttp.ClientSession,
    place: Place,
    turns: Iterator[int],
    sample: Sample,
    max_tokens: int,
    streamed: bool,
) -> None:
    for _ in turns:
        await _ask(session, place, sample, max_tokens, streamed)


async def _ask(session: aiohttp.ClientSession, place: Place, sample: Sample, max_tokens: int, streamed: bool) -> None:
    body = {
        "model": place.model,
        "messages": [{"role": "user", "content": f"Tell a long story about number {next(_numbers)}."}],
        "max_tokens": max_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": streamed,
    }
    headers = {"content-type": "application/json"}
    began = time.perf_counter()
    async with session.post(CHAT, data=orjson.dumps(body), headers=headers) as answer:
        answer.raise_for_status()
        await answer.content.readany()
        sample.first_s.append(time.perf_counter() - began)
        await answer.read()
    sample.whole_s.append(time.perf_counter() - began)


def median_ms(values: list[float]) -> float:
    return statistics.median(values) * 1000


def p99_ms(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] * 1000
