"""Live load: an OpenAI client that keeps asking, streaming and not, and tells how every single request ended.

    async with live_load("http://127.0.0.1:7605", ("persona",)) as load:
        ...                             # evacuate, restore
    print(load.report)
    assert not load.report.unclean

Also by hand: `python -m tests.support.load http://127.0.0.1:7605 MODEL --seconds 20`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic

import openai

from shared.asgi.replies import ABORTED

# How often the clients ask again while they are refused.
PAUSE_S = 0.05


class End(StrEnum):
    """How a request ended, as its client sees it."""

    FULL = "full"  #: the whole answer
    REFUSED = "refused"  #: 503 with an error in JSON, before anything of it was done
    UNREACHABLE = "unreachable"  #: no connection: nothing was ever accepted
    ABORTED = "aborted"  #: ended on the way, and told so: 503, or an error event and an orderly end
    UNCLEAN = "unclean"  #: cut off, reset, timed out, or an error that is none of these


NEVER_CONNECTED = frozenset({"ConnectError", "ConnectTimeout"})
# By the finish reason of an answer that came to an orderly end; without one it is cut off.
ENDS: dict[str | None, End] = {"stop": End.FULL, "length": End.FULL, "abort": End.ABORTED}


@dataclass(frozen=True)
class Ended:
    """One request: what became of it, how long it took, what the client was told."""

    end: End
    seconds: float
    at: float
    streamed: bool
    said: str = ""


@dataclass
class Report:
    """Every request of a load, in the order in which they ended."""

    ended: list[Ended] = field(default_factory=list)

    @property
    def counts(self) -> dict[End, int]:
        seen = Counter(one.end for one in self.ended)
        return {end: seen[end] for end in End}

    @property
    def longest_s(self) -> float:
        """Seconds of the longest full answer."""
        return max((one.seconds for one in self.ended if one.end is End.FULL), default=0.0)

    @property
    def unclean(self) -> list[Ended]:
        return [one for one in self.ended if one.end is End.UNCLEAN]

    def since(self, moment: float) -> Report:
        """What ended after `moment` on the monotonic clock."""
        return Report([one for one in self.ended if one.at > moment])

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {end}" for end, count in self.counts.items())
        return f"{len(self.ended)} requests: {counted}; longest answer {self.longest_s:.2f} s"


class LiveLoad:
    """Clients that ask one request after the other until they are stopped."""

    def __init__(self, url: str, models: Sequence[str], max_tokens: int, timeout_s: float) -> None:
        self.report = Report()
        self.under_way = 0
        self._models, self._max_tokens = models, max_tokens
        self._client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=timeout_s)
        self._stopped = False

    async def ask_on(self, number: int) -> None:
        """Client `number`: every second one streams; each request has a prompt of its own."""
        turn = number
        while not self._stopped:
            ended = await self.ask(self._models[turn % len(self._models)], f"{number}-{turn}", streamed=number % 2 == 0)
            turn += 1
            if ended.end is not End.FULL:
                await asyncio.sleep(PAUSE_S)

    async def ask(self, model: str, topic: str, streamed: bool) -> Ended:
        began = monotonic()
        self.under_way += 1
        try:
            end, said = await self._end_of(model, topic, streamed)
        finally:
            self.under_way -= 1
        ended = Ended(end, monotonic() - began, monotonic(), streamed, said)
        self.report.ended.append(ended)
        return ended

    async def _end_of(self, model: str, topic: str, streamed: bool) -> tuple[End, str]:
        asked = {
            "model": model,
            "messages": [{"role": "user", "content": f"Tell a long story about number {topic}."}],
            "max_tokens": self._max_tokens,
            "temperature": 0.0,
        }
        try:
            reason = await (self._stream(asked) if streamed else self._whole(asked))
        except openai.APIError as error:
            return classify(error)
        return ENDS.get(reason, End.UNCLEAN), f"finish_reason {reason}"

    async def _stream(self, asked: dict[str, object]) -> str | None:
        """The finish reason of a stream; None where it ended without one."""
        reason = None
        async for chunk in await self._client.chat.completions.create(**asked, stream=True):  # type: ignore[call-overload]
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
        return reason

    async def _whole(self, asked: dict[str, object]) -> str | None:
        answer = await self._client.chat.completions.create(**asked)  # type: ignore[call-overload]
        return answer.choices[0].finish_reason if answer.choices else None

    async def stop(self) -> None:
        self._stopped = True

    async def close(self) -> None:
        await self._client.close()


def classify(error: openai.APIError) -> tuple[End, str]:
    """What an exception of the client says about the end of its request."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, openai.APIConnectionError):  # timeouts are among them
        cause = type(error.__cause__).__name__
        return (End.UNREACHABLE if cause in NEVER_CONNECTED else End.UNCLEAN), f"{said} ({cause}: {error.__cause__})"
    if error.code == ABORTED:
        return End.ABORTED, said
    if isinstance(error, openai.APIStatusError) and error.status_code == 503 and isinstance(error.body, dict):
        return End.REFUSED, said
    return End.UNCLEAN, said


@asynccontextmanager
async def live_load(
    url: str,
    models: Sequence[str],
    parallel: int = 8,
    max_tokens: int = 32,
    timeout_s: float = 120.0,
) -> AsyncIterator[LiveLoad]:
    """`parallel` clients at work; at the end each finishes the request that it has under way."""
    load = LiveLoad(url, models, max_tokens, timeout_s)
    clients = [asyncio.create_task(load.ask_on(number)) for number in range(parallel)]
    try:
        yield load
    finally:
        await load.stop()
        await asyncio.gather(*clients)
        await load.close()


async def _by_hand() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    said = parser.parse_args()
    async with live_load(said.url, said.models, said.parallel, said.max_tokens) as load:
        await asyncio.sleep(said.seconds)
    print(load.report)
    for one in load.report.unclean[:20]:
        print(f"  unclean after {one.seconds:.2f} s, {'streamed' if one.streamed else 'whole'}: {one.said}")


if __name__ == "__main__":
    asyncio.run(_by_hand())
