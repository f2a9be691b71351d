"""Which split a record belongs to: by lineage, by keyed hash, fixed before anything is generated from the data.

All records of a lineage (a session and everything joined to it by correction) share one split, and a split never
changes as karma grows: the hash of a lineage does not depend on any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum

HOLDOUT_SHARE = 0.18
DEV_SHARE = 0.06


class Split(StrEnum):
    TRAIN = "train"
    DEV = "dev"
    HOLDOUT = "holdout"


def assign(persona: str, lineage: str) -> Split:
    """The split of a lineage; the same for ever."""
    place = _place(f"{persona}/{lineage}")
    if place < HOLDOUT_SHARE:
        return Split.HOLDOUT
    return Split.DEV if place < HOLDOUT_SHARE + DEV_SHARE else Split.TRAIN


def lineages(links: Iterable[tuple[str, str, str | None]]) -> dict[str, str]:
    """The lineage of every record, from (id, session, parent id).

    Sessions that a correction joins across are one lineage, named by the smallest session in it.
    """
    links = list(links)
    session_of = {record: session for record, session, _ in links}
    root = {session: session for session in session_of.values()}
    for record, _, parent in links:
        if parent in session_of:
            one, other = _find(root, session_of[record]), _find(root, session_of[parent])
            root[max(one, other)] = min(one, other)
    return {record: _find(root, session) for record, session in session_of.items()}


def _find(root: dict[str, str], session: str) -> str:
    while root[session] != session:
        root[session] = root[root[session]]
        session = root[session]
    return session


def _place(key: str) -> float:
    """A number in [0, 1), evenly spread over keys."""
    return int.from_bytes(hashlib.sha256(f"soulforge split {key}".encode()).digest()[:8], "big") / 2**64
