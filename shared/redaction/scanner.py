"""Find and replace: one Hyperscan pass selects the recognisers that may find something, and only those run.

A Scanner holds Hyperscan's databases and scratch space: build one in each process, do not share it between threads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

import hyperscan

from shared.redaction.assignments import ASSIGNMENTS
from shared.redaction.commands import COMMANDS
from shared.redaction.fold import fold
from shared.redaction.national import NATIONAL_NUMBERS
from shared.redaction.personal import PERSONAL_DATA
from shared.redaction.phones import PHONES
from shared.redaction.policy import RedactionPolicy
from shared.redaction.recogniser import Recogniser
from shared.redaction.sensitive import PLACEHOLDER, PLACEHOLDERS, RANK, Finding, Sensitive, Span
from shared.redaction.tables import TABLES
from shared.redaction.tokens import TOKENS
from shared.redaction.values import judged

RECOGNISERS: tuple[Recogniser, ...] = (
    *TOKENS,
    *ASSIGNMENTS,
    *COMMANDS,
    *TABLES,
    *PERSONAL_DATA,
    *NATIONAL_NUMBERS,
    *PHONES,
)
#: In the raw text of a JSON document these may hide a character that an anchor waits for.
_ESCAPES = r"\\u[0-9a-fA-F]{4}|\\/"
#: Digits with gaps between them: beside the others these anchors cost twice as much as in a pass of their own.
_APART = frozenset({Sensitive.CARD, Sensitive.IBAN})
_INTERNATIONAL = (r"\+", "00")  # how the anchors of phone numbers with a country code begin


class Scanner:
    """Finds what a policy calls sensitive; deterministic, and built in well under a second."""

    def __init__(self, policy: RedactionPolicy) -> None:
        self.policy = policy
        self._allowed = frozenset(literal.casefold() for literal in policy.allow)
        self._recognisers = [r for r in RECOGNISERS if policy.action(r.sensitive) != "keep"]
        anchors = [
            (anchor, n, r.sensitive in _APART or anchor.startswith(_INTERNATIONAL))
            for n, r in enumerate(self._recognisers)
            for anchor in r.anchors
        ]
        anchors.append((_ESCAPES, len(self._recognisers), False))
        groups = [[(anchor, n) for anchor, n, apart in anchors if apart is group] for group in (False, True)]
        databases = [_database(group) for group in groups if group]
        self._databases = [(database, hyperscan.Scratch(database)) for database in databases]
        self._met: set[int] = set()
        self._meet = lambda anchor, _start, _end, _flags, _context: self._met.add(anchor)

    def suspicious(self, text: str) -> bool:
        """Whether a look is worth it: one cheap pass over plain text or a whole JSON document; False means clean."""
        return bool(self._asked(fold(text).text))

    def find(self, text: str, name: str = "") -> tuple[Span, ...]:
        """Everything sensitive in a text, in order and without overlaps.

        `name` is what the text is the value of, where it is one: `hunter2` alone is nothing, as a `password` it is a secret.
        """
        name = "" if PLACEHOLDER.search(name) else name  # `[api key]` is a name that we gave ourselves
        sign = ":\n" if "\n" in text.strip() else ": "  # the first of several lines may be the head of a table
        probe = f"{name}{sign}{text}" if name else text
        folded = fold(probe)
        asked = sorted(self._asked(folded.text))
        recognisers = [self._recognisers[n] for n in asked if n < len(self._recognisers)]
        if not recognisers:
            return ()
        shift = len(probe) - len(text)
        found = [
            (*folded.original(start, end), sensitive) for start, end, sensitive in self._spans(folded.text, recognisers)
        ]
        spans = [Span(max(0, start - shift), end - shift, sensitive) for start, end, sensitive in found if end > shift]
        if name and (sensitive := judged(fold(name).text, fold(text).text, quoted=True)) is not None:
            spans.append(Span(0, len(text), sensitive))
        return _merged(self._reportable(text, spans))

    def clean(self, text: str, name: str = "") -> tuple[str, tuple[Finding, ...]]:
        """The text with placeholders for all that is found in it, and what was found.

        Looks again until nothing is found, since a placeholder may lay open what stood beside it: to clean a cleaned
        text changes nothing. It ends, because a finding never touches a placeholder.
        """
        found: list[Finding] = []
        while spans := self.find(text, name):
            found += [Finding(span.sensitive, text[span.start : span.end]) for span in spans]
            text = redact(text, spans)
        return text, tuple(found)

    def _spans(self, text: str, recognisers: Iterable[Recogniser]) -> Iterator[Span]:
        for recogniser in recognisers:
            for start, end in recogniser.find(text, self.policy):
                if start < end:
                    yield Span(start, end, recogniser.sensitive)

    def _reportable(self, text: str, spans: Iterable[Span]) -> Iterator[Span]:
        placeholders = [match.span() for match in PLACEHOLDER.finditer(text)]
        for span in spans:
            before = bisect_left(placeholders, (span.end, 0)) - 1  # the last one that begins before the span ends
            touched = before >= 0 and placeholders[before][1] > span.start
            if not touched and text[span.start : span.end].casefold() not in self._allowed:
                yield span

    def _asked(self, text: str) -> set[int]:
        data = text.encode("utf-8", "surrogatepass")
        self._met.clear()
        for database, scratch in self._databases:
            database.scan(data, self._meet, scratch=scratch)
        return self._met


def _database(anchors: list[tuple[str, int]]) -> hyperscan.Database:
    database = hyperscan.Database()
    database.compile(
        expressions=[anchor.encode("latin-1") if "\\x80" in anchor else anchor.encode() for anchor, _ in anchors],
        ids=[n for _, n in anchors],
        elements=len(anchors),
        flags=hyperscan.HS_FLAG_SINGLEMATCH,  # one match of an anchor is enough
    )
    return database


def redact(text: str, spans: Iterable[Span]) -> str:
    """The text with each span's placeholder in its place; spans must be in order and not overlap."""
    parts, at = [], 0
    for start, end, sensitive in spans:
        parts += [text[at:start], PLACEHOLDERS[sensitive]]
        at = end
    return "".join([*parts, text[at:]])


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Overlapping findings as one, over the whole of them, named by the class that comes first."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.start < merged[-1].end:
            last = merged.pop()
            span = Span(last.start, max(last.end, span.end), min(last.sensitive, span.sensitive, key=RANK.__getitem__))
        merged.append(span)
    return tuple(merged)
