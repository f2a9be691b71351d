"""The probes of an adapter: prompts with its answers, by which the registry proves later which adapter answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import Field

from shared.contracts.frozen import Frozen

LEAST_PROBES = 6  #: fewer prompts prove nothing about which adapter answers
SAME_MODEL = 0.15  #: nats a token; see `limit`


class Distance(Frozen):
    """How far another model's leads are from those of an answer, in nats: summed over the tokens that both were asked for."""

    nats: float = Field(ge=0, le=1e6)
    tokens: int = Field(ge=0)

    @property
    def mean(self) -> float:
        return self.nats / self.tokens if self.tokens else 0.0


class Probe(Frozen):
    """A fixed prompt, the adapter's greedy answer to it, and how far base and champion are from that.

    The lead of a token is its log-probability minus that of the best other one, in nats.
    """

    prompt: str
    answer: str = Field(description="Text of `tokens`, for people.")
    tokens: tuple[int, ...] = Field(min_length=1, max_length=64)
    leads: tuple[float, ...] = Field(min_length=1, max_length=64)
    base: Distance
    champion: Distance | None = Field(None, description="None where there was no champion.")


def total(distances: Iterable[Distance]) -> Distance:
    found = tuple(distances)
    return Distance(nats=sum(one.nats for one in found), tokens=sum(one.tokens for one in found))


def limit(base: float) -> float:
    """The largest distance of the same adapter in another engine, for an adapter that is this far from the base.

    The rounding grows with what an adapter changes, and so does, faster, the distance of a similar one: docs/binding.md.
    """
    return max(SAME_MODEL, base / 20)


def distance(stored: Sequence[float], leads: Sequence[float]) -> Distance:
    """The distance of the leads that a model has for the tokens of a stored answer.

    It ends with the first token that the model would not give, or where another is as likely: what follows may be another text.
    """
    nats, tokens = 0.0, 0
    for one, other in zip(stored, leads, strict=False):
        nats, tokens = nats + abs(one - other), tokens + 1
        if other <= 0:
            break
    return Distance(nats=nats, tokens=tokens)
