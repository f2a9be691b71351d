"""Assign records to splits: by lineage, by keyed hash, fixed before anything is generated from the data.

All records of a lineage (a session and everything joined to it by correction) share one split, and a split never
changes as karma grows: the hash of a lineage does not depend on any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import AnyStr

LONGEST_SHOWN = 5  # members of a circle


class Split(StrEnum):
    """The sides of a manifest."""

    TRAIN = "train"
    DEV = "dev"
    HOLDOUT = "holdout"


def lineage_place(key: str, persona: str, lineage: str) -> float:
    """A number in [0, 1), evenly spread over lineages and the same for ever."""
    return int.from_bytes(hashlib.sha256(f"{key} {persona}/{lineage}".encode()).digest()[:8], "big") / 2**64


def split_of(place: float, holdout: float, dev: float) -> Split:
    """The split at a place: the holdout first, so that it stays where it is when the share of dev changes."""
    if place < holdout:
        return Split.HOLDOUT
    return Split.DEV if place < holdout + dev else Split.TRAIN


def join_groups(links: Iterable[tuple[AnyStr, AnyStr]]) -> dict[AnyStr, AnyStr]:
    """member -> group, for all members that the links join directly or through others; a group has its least member's name."""
    root: dict[AnyStr, AnyStr] = {}
    for one, other in links:
        first, second = sorted((_find(root, one), _find(root, other)))
        root[second] = first
    return {member: _find(root, member) for member in list(root)}


def find_circles(parents: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Find the circles of `parents` (member -> parent), each in the order of its links from its least member on."""
    circles: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for member in parents:
        path: dict[str, int] = {}
        while member in parents and member not in seen:
            seen.add(member)
            path[member] = len(path)
            member = parents[member]
        if member in path:
            circle = list(path)[path[member] :]
            least = circle.index(min(circle))
            circles.append((*circle[least:], *circle[:least]))
    return circles


def describe_circle(circle: Sequence[str]) -> str:
    """`a → b → a`; a long circle is cut."""
    shown = [*circle[:LONGEST_SHOWN], f"… {len(circle) - LONGEST_SHOWN} more"][: len(circle)]
    return " → ".join([*shown, circle[0]])


def _find(root: dict[AnyStr, AnyStr], member: AnyStr) -> AnyStr:
    root.setdefault(member, member)
    while root[member] != member:
        root[member] = root[root[member]]
        member = root[member]
    return member
