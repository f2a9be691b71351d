"""Patterns from outside, compiled within a bound.

`regex` writes a repeat out as often as its least count when it compiles: `(?:ab){3000000}` takes 800 MB. A pattern is
therefore measured on the tree of `regex`'s own parser, which is not public: another parser would disagree with it about
classes, comments and white space, and so measure another pattern than the one compiled. `regex` is pinned.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import regex
from regex import _regex_core as core

LONGEST_PATTERN = 2000
MOST_NODES = 10_000  #: of a pattern whose repeats are written out; each takes up to 0.3 KB
MOST_PATTERNS = 32  #: that one record may have, and that are kept compiled

_REFUSED = {
    core.Fuzzy: r"approximate matching such as {e<=1} (a literal brace is \{)",
    core.CallGroup: "a call of a group such as (?R) or (?1)",
    core.Grapheme: r"\X",
}


class PatternError(ValueError):
    """The pattern is no regular expression, or costs too much to compile."""


@lru_cache(maxsize=MOST_PATTERNS)
def compile_pattern(pattern: str) -> Any:
    """The compiled pattern; its `.` also matches newlines. Raises PatternError."""
    try:
        if _count_nodes(_parse(pattern)) <= MOST_NODES:
            return regex.compile(pattern, regex.DOTALL, cache_pattern=False)
    except PatternError:
        raise
    except Exception as error:  # also OverflowError, RecursionError and MemoryError
        raise PatternError(f"not a regular expression: {error}") from error
    raise PatternError(
        f"the pattern has more than {MOST_NODES} parts when its repeats are written out: "
        "lower the least counts of its {n} and {n,}"
    )


def _parse(pattern: str) -> Any:
    source, info = core.Source(pattern), core.Info(regex.DOTALL, str)
    info.guess_encoding = core.UNICODE
    try:
        return core._parse_pattern(source, info)
    except core._UnscopedFlagSet as flag:  # one of those that Python's `re` lacks
        raise PatternError("the pattern sets a flag other than a, i, m, s, u and x") from flag


def _count_nodes(node: Any) -> int:
    """The nodes of the tree, those of a repeat counted as often as it must match."""
    if unsupported := _REFUSED.get(type(node)):
        raise PatternError(f"{unsupported} is not supported in patterns")
    if getattr(node, "case_flags", 0) & regex.FULLCASE:
        raise PatternError("the flag f is not supported in patterns")
    times = max(1, getattr(node, "min_count", 1))
    return 1 + times * sum(map(_count_nodes, _parts(node)))


def _parts(node: Any) -> Iterator[Any]:
    for value in vars(node).values():
        values = value if isinstance(value, list | tuple) else (value,)
        yield from (part for part in values if isinstance(part, core.RegexBase))
