"""The anatomy of every recogniser: what it finds, what must occur in a text before it is run, and how it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from shared.redaction.policy import RedactionPolicy
from shared.redaction.sensitive import Sensitive

Range = tuple[int, int]


class Recogniser(NamedTuple):
    """One way to find one class. `find` is asked only where one of `anchors` (Hyperscan, over UTF-8) matches."""

    sensitive: Sensitive
    anchors: tuple[str, ...]
    find: Callable[[str, RedactionPolicy], Iterator[Range]]
