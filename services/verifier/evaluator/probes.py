"""The probes: of a pool of general prompts those whose answers tell the candidate best from base and champion; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.contracts.probe import Distance, Probe, limit, total

TOKENS = 16

TEMPLATES = (
    "Describe {0} in one sentence.",
    "Write a short note about {0}.",
    "Give three facts about {0}.",
    "What comes to mind first about {0}?",
    "Write a reply to a friend who asked about {0}.",
    "Sum up what one should know about {0}.",
    "What can go wrong with {0}?",
    "Begin a story with {0}.",
    "Explain {0} to a child.",
    "Write a title for a page about {0}.",
    "Write a Python function that has to do with {0}.",
    "What should be done next about {0}?",
)
SUBJECTS = (
    "an old bridge", "the village library", "a broken clock", "a rainy market day", "the last train", "a garden gate",
    "a lost key", "a loaf of bread", "the harbour at night", "a noisy neighbour", "a new bicycle", "the school play",
    "a long letter", "a cold winter", "a small museum", "a stone wall", "the water bill", "a box of tools",
    "a missed appointment", "the apple harvest",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """A greedy answer: its tokens, and the lead of each over the second best one, in nats."""

    prompt: str
    tokens: tuple[int, ...]
    leads: tuple[float, ...]


def list_prompts() -> tuple[str, ...]:
    """The pool, 240 prompts: none is of a persona's records, so that a bundle shows nothing of the sealed holdout."""
    return tuple(template.format(subject) for subject in SUBJECTS for template in TEMPLATES)


def choose(probes: Sequence[Probe], count: int) -> tuple[Probe, ...]:
    """The `count` probes to which the nearer one of base and champion is farthest."""
    return tuple(sorted(probes, key=lambda probe: -nearest(probe).mean)[:count])


def nearest(probe: Probe) -> Distance:
    return min(probe.base, probe.champion or probe.base, key=lambda one: one.mean)


def tells_apart(probes: Sequence[Probe]) -> bool:
    """Whether base and champion are so far from the candidate that what passes as the candidate is neither."""
    base = total(probe.base for probe in probes).mean
    champions = [probe.champion for probe in probes if probe.champion]
    return min(base, total(champions).mean if champions else base) >= 2 * limit(base)
