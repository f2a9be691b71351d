"""What a pattern may cost to compile: a small one cannot be written out to gigabytes, and usual ones are let through."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.contracts.checks import Checks, Regex
from shared.contracts.patterns import MOST_NODES, MOST_PATTERNS

pytestmark = pytest.mark.timeout(60)

MEASURE = """
import json, resource, sys, time
from pathlib import Path
from shared.contracts.patterns import compile_pattern

def get_peak_mb():
    # ru_maxrss would begin at the peak of the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

compile_pattern("a")
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for pattern in json.load(sys.stdin):
    peak, began = get_peak_mb(), time.process_time()
    try:
        compile_pattern(pattern)
        accepted = True
    except ValueError:
        accepted = False
    took_s = time.process_time() - began
    print(json.dumps([accepted, get_peak_mb() - peak, took_s]))
"""
HUGE = {
    "group": r"(?:ab){3000000}",
    "group in group": r"(?:a{2000}){2000}",
    "character": r"a{3000000}",
    "no upper count": r"(?:ab){3000000,}",
    "both counts": r"(?:ab){3000000,3000001}",
    "lazy": r"(?:ab){3000000}?",
    "possessive": r"(?:ab){3000000}+",
    "captured": r"(a){3000000}",
    "named": r"(?P<n>a){3000000}",
    "atomic": r"(?>ab){3000000}",
    "class": r"[ab]{3000000}",
    "class with a parenthesis": r"(?:[)]{2000}){2000}",
    "class that begins with a bracket": r"(?:[])(]{2000}){2000}",
    "class that ends after a POSIX class": r"[[:alpha:][](?:ab){3000000}]",
    "class of several": r"[ab]{6000}",
    "negated class": r"[^])(]{3000000}",
    "escape": r"(?:\d{2000}){2000}",
    "escaped parenthesis": r"(?:\){2000}){2000}",
    "hexadecimal escape": r"(?:\x41{2000}){2000}",
    "property": r"\p{Lu}{3000000}",
    "back reference": r"(a)\1{3000000}",
    "three deep": r"(?:(?:(?:a){200}b){200}c){200}",
    "twenty deep": "(?:" * 20 + "ab" + "){2}" * 20,
    "hundreds deep": "(?:" * 180 + "ab" + "){9999}" * 180,
    "alternatives": r"(?:a{3000}|b{3000}|(?:c|d){3000000})",
    "many side by side": "a{9999}" * 200,
    "look-ahead": r"(?=(?:ab){3000000})",
    "look-behind": r"(?<=(?:ab){3000000})c",
    "condition": r"(a)?(?(1)b{3000000}|c)",
    "in a scope of flags": r"(?i:ab){3000000}",
    "ignoring case": r"(?i)(?:ab){3000000}",
    "verbose, digits apart": "(?x)(?:ab){3 000 #\n 000}",
    "verbose, in a scope": "(?x:(?:a # )\n b){2000}){2000}",
    "after a comment": r"(?#(?:)(?:a{2000}){2000}",
    "comment between": r"(?:ab)(?#x){3000000}",
    "literal repeated": r"\{{3000000}",
}
OTHER = {
    "approximate": (r"(?:abc){e<=1}", "approximate matching"),
    "approximate group": (r"(abc){1<=e<=3}", "approximate matching"),
    "call of all": (r"a(?R)?b", "call of a group"),
    "call of a group": (r"((?1)?a)b", "call of a group"),
    "call hidden from re": (r"(a)[[:alpha:][](?1)]", "call of a group"),
    "cluster": (r"\X", r"\X is not supported"),
    "named list": (r"\L<words>", "not a regular expression"),
    "nested sets": (r"(?V1)[[a-z]--[b]]", "sets a flag"),
    "best match": (r"(?b)a", "sets a flag"),
    "full case folding": (r"(?if)[a-z]", "flag f"),
}
USUAL = [
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}",
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"(?:[^\n]{1,200}\n){1,50}",
    r".{0,100000}",
    r"(?:ab){,3000000}",
    r".{2000,}",
    r"\(\d{3}\) \d{3}-\d{4}",
    r"a\{3000000\}",
    r"a\{3000000}",
    r"[{]3000000}",
    r"(?:a[{3000000}]){3}",
    r"\{\"n\": \d+\}",
    r"{}",
    r"a{,}",
    r"a{x}",
    r"x{2}{",
    r"(?<=a{3})b",
    r"(?:a|b{2}|(?:c{3}){4})+",
    "(?x) a {2} # (?:b){3000000}\n c",
    r"(?#(?:a{3000000} [)b",
    r"(?P<q>['\"]).*?(?P=q)",
    r"(?i:yes|no)[.!]?",
]
huge = pytest.mark.parametrize("pattern", HUGE.values(), ids=HUGE.keys())
ATOMS = [
    "a",
    "b",
    ".",
    r"\d",
    r"\{",
    r"\)",
    "[ab]",
    "[])(]",
    "[^{2}]",
    "[[:alpha:][]",
    r"\p{L}",
    r"\R",
    "ß",
    "^",
    "$",
    "#",
]
OPENINGS = ["(?:", "(", "(?=", "(?!", "(?<=", "(?i:", "(?x: ", "(?>", "(?#c)(?:", "(?|", "(?s-i:", "(?w:"]
SUFFIXES = [
    "",
    "",
    "*",
    "+?",
    "{2}",
    "{30}+",
    "{900}",
    "{5,}",
    "{,7}",
    "{1,90000}",
    "{3 0}",
    "{70}?",
    "{e<=0}",
    "{e<=1}",
]
trees = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=5).map("".join),
        st.lists(inner, min_size=2, max_size=4).map("|".join),
        st.builds("{}{}){}".format, st.sampled_from(OPENINGS), inner, st.sampled_from(SUFFIXES)),
        st.builds("{}{}".format, inner, st.sampled_from(SUFFIXES)),
    ),
    max_leaves=25,
)
patterns = st.builds("{}{}".format, st.sampled_from(["", "", "(?i)", "(?x)", "(?r)"]), trees)


def measure(patterns: list[str]) -> list[tuple[bool, float, float]]:
    """Of each: whether it was accepted, the MB by which the peak of another process grew, and the CPU seconds."""
    process = subprocess.run(
        [sys.executable, "-c", MEASURE], input=json.dumps(patterns), capture_output=True, text=True, check=True
    )
    return [tuple(json.loads(line)) for line in process.stdout.splitlines()]


def test_a_pattern_that_would_be_written_out_to_gigabytes_is_refused_at_once() -> None:
    for name, (accepted, grown, took_s) in zip(HUGE, measure(list(HUGE.values())), strict=True):
        assert not accepted, name
        assert grown < 10 and took_s < 0.05, name


@huge
def test_the_refusal_of_a_huge_pattern_tells_what_to_lower(pattern: str) -> None:
    with pytest.raises(ValidationError, match=r"more than 10000 parts .* lower the least counts"):
        Regex(pattern=pattern)


@pytest.mark.parametrize(("pattern", "why"), OTHER.values(), ids=OTHER.keys())
def test_what_only_regex_has_and_costs_is_refused_by_name(pattern: str, why: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(why)):
        Regex(pattern=pattern)


@pytest.mark.parametrize("pattern", USUAL)
def test_a_usual_pattern_is_one(pattern: str) -> None:
    re.compile(pattern)

    assert Regex(pattern=pattern).pattern == pattern


def test_the_dearest_patterns_that_are_accepted_stay_within_the_bounds() -> None:
    most = MOST_NODES - 10
    dearest = [f"a{{{most}}}", f"[ab]{{{most // 3}}}", f"(a){{{most // 3}}}", f"(?:a*){{{most // 4}}}"]
    dearest += [f"(?:a|b){{{most // 6}}}", rf"\R{{{most // 12}}}", rf"(?i)(a)\1{{{most}}}", "[a-cx-z]*" * 220]

    for pattern, (accepted, grown, took_s) in zip(dearest, measure(dearest), strict=True):
        assert accepted, pattern
        assert grown < 50 and took_s < 0.05, (pattern, grown, took_s)


def test_the_checks_of_a_record_together_stay_within_a_bound() -> None:
    many = [rf"{number}a{{9000}}" for number in range(MOST_PATTERNS * 4)]

    measured = measure(many)

    assert all(accepted for accepted, _, _ in measured)
    assert sum(grown for _, grown, _ in measured) < 100


@settings(max_examples=15, deadline=None)
@given(st.lists(patterns, min_size=50, max_size=50))
def test_what_is_accepted_compiles_within_50_ms_and_50_mb(found: list[str]) -> None:
    for pattern, (_, grown, took_s) in zip(found, measure(found), strict=True):
        assert grown < 50 and took_s < 0.05, pattern


def test_more_checks_than_a_record_may_have_are_refused() -> None:
    checks = [{"kind": "regex", "pattern": "a"}] * (MOST_PATTERNS + 1)

    with pytest.raises(ValidationError, match="at most 32 items"):
        TypeAdapter(Checks).validate_python(checks)
