"""Fold a text into the form that is searched: NFKC, nothing invisible, no colours of a terminal; every place can be traced back exactly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

#: What shows nothing: soft hyphens, zero-width and directional signs, fillers, variation selectors, tags (Unicode 17, Default_Ignorable).
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff"
)
_HIDDEN = re.compile(f"[{_INVISIBLE}]")
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,24}[A-Za-z]")
#: Letters that no normal form takes for `i`, but `re.IGNORECASE` does.
_DOTS = {"ı": "i", "İ": "I"}
_UNUSUAL = re.compile(f"[{_INVISIBLE}{''.join(_DOTS)}]")
_BEYOND_ASCII = re.compile(r"(?s).?[^\x00-\x7f]+")
#: Join what stands before them, though they are no combining characters: half-width voice marks, vowels and ends of Hangul.
_JOINING = re.compile("[\uff9e\uff9f\u1161-\u11ff]")


class Folded(NamedTuple):
    """A folded text; where it is another one, the place in the original at which each character begins and ends."""

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The range of the original text that a range of the folded one, not an empty one, comes from."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """Fold a text; one that is in this form already costs a glance."""
    if "\x1b" not in text or not _COLOUR.search(text):
        return _fold(text)
    plain = _without_colours(text)
    folded = _fold(plain.text)
    if folded.starts is None or folded.ends is None:
        return plain
    places = [plain.original(start, end) for start, end in zip(folded.starts, folded.ends, strict=True)]
    return Folded(folded.text, [start for start, _ in places], [end for _, end in places])


def _without_colours(text: str) -> Folded:
    kept: list[int] = []
    at = 0
    for colour in _COLOUR.finditer(text):
        kept.extend(range(at, colour.start()))
        at = colour.end()
    kept.extend(range(at, len(text)))
    return Folded("".join(map(text.__getitem__, kept)), kept, [place + 1 for place in kept])


def _fold(text: str) -> Folded:
    if text.isascii() or _is_folded(text):
        return Folded(text)
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []

    def keep(start: int, end: int) -> None:
        parts.append(text[start:end])
        starts.extend(range(start, end))
        ends.extend(range(start + 1, end + 1))

    at = 0
    for run in _BEYOND_ASCII.finditer(text):
        keep(at, run.start())
        at = run.end()
        if _is_folded(run[0]):
            keep(*run.span())
            continue
        for start, end, cluster in _clusters(text, *run.span()):
            folded = _fold_cluster(cluster)
            parts.append(folded)
            starts.extend([start] * len(folded))
            ends.extend([end] * len(folded))
    keep(at, len(text))
    return Folded("".join(parts), starts, ends)


@lru_cache(maxsize=4096)
def _fold_cluster(cluster: str) -> str:
    return _DOTS.get(cluster) or unicodedata.normalize("NFKC", cluster)


def _is_folded(text: str) -> bool:
    return unicodedata.is_normalized("NFKC", text) and not _UNUSUAL.search(text)


def _clusters(text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """Each character with what joins it, invisible ones left out, and where it begins and ends."""
    cluster, begin, stop = "", start, start
    for place in range(start, end):
        character = text[place]
        joins = _joins(character)
        if joins is None:
            continue
        if cluster and joins:
            cluster, stop = cluster + character, place + 1
            continue
        if cluster:
            yield begin, stop, cluster
        cluster, begin, stop = character, place, place + 1
    if cluster:
        yield begin, stop, cluster


@lru_cache(maxsize=4096)
def _joins(character: str) -> bool | None:
    """Whether a character joins what stands before it; None of an invisible one."""
    if _HIDDEN.match(character):
        return None
    return bool(unicodedata.combining(character) or _JOINING.match(character))
