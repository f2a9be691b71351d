"""Test strings that others published, as a corpus that no recogniser here was written against. Nothing of it is kept here.

`python -m tests.support.corpora.published [gitleaks] [detect-secrets]`, with the paths of checkouts of
https://github.com/gitleaks/gitleaks and https://github.com/Yelp/detect-secrets, prints how many of their positive strings are
found and how many of their negative ones are not; without paths only what the installed phonenumbers and python-stdnum hold.
A negative of theirs may well be a secret of another kind: the figures are to be looked at, not to be reached.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import phonenumbers

from shared.redaction.policy import RedactionPolicy
from shared.redaction.scanner import Scanner

_LISTS = re.compile(r"\b(tps|fps)\s*(?::?=|=\s*append\(\s*\w+\s*,)\s*\[\]string\{(.*?)\n\t\}", re.DOTALL)
_LITERAL = re.compile(r"^\s*(`[^`]*`|\"(?:[^\"\\\n]|\\.)*\"),[ \t]*(?://.*)?$", re.MULTILINE)
_NUMBERS = (
    "iban",
    "us.ssn",
    "de.idnr",
    "nl.bsn",
    "es.dni",
    "es.nie",
    "fr.nir",
    "it.codicefiscale",
    "pl.pesel",
    "bitcoin",
)
_CALLED = {
    "de.idnr": "Steuer-ID", "nl.bsn": "BSN", "es.dni": "DNI", "es.nie": "NIE", "fr.nir": "NIR", "it.codicefiscale": "Codice fiscale",
    "pl.pesel": "PESEL",
}  # fmt: skip


class Published(NamedTuple):
    source: str
    text: str
    positive: bool


def gitleaks(checkout: Path) -> Iterator[Published]:
    """The literal strings of `tps` and `fps` in the sources of its rules; those that it generates are left out."""
    for path in sorted((checkout / "cmd" / "generate" / "config" / "rules").glob("*.go")):
        for name, block in _LISTS.findall(path.read_text()):
            for literal in _LITERAL.findall(block):
                text = literal[1:-1] if literal[0] == "`" else ast.literal_eval(literal)
                yield Published(f"gitleaks {path.stem}", text, name == "tps")


def detect_secrets(checkout: Path) -> Iterator[Published]:
    """The pairs of a string and whether it is to be flagged that its tests of plugins are parametrised with."""
    for path in sorted((checkout / "tests" / "plugins").glob("*_test.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Tuple) and len(node.elts) == 2:
                text, flagged = node.elts
                if (
                    isinstance(text, ast.Constant)
                    and isinstance(flagged, ast.Constant)
                    and isinstance(flagged.value, bool)
                ):
                    yield Published(f"detect-secrets {path.stem.removesuffix('_test')}", str(text.value), flagged.value)


def installed() -> Iterator[Published]:
    """An example of each region's phone numbers, and the numbers in the documentation of python-stdnum."""
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        if number is not None:
            written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
            yield Published("phonenumbers", f"You can reach me at {written}.", True)
    for name in _NUMBERS:
        document = importlib.import_module(f"stdnum.{name}").__doc__ or ""
        for number in re.findall(r">>> validate\('([^']+)'\)\n'", document):
            yield Published("python-stdnum", f"{_CALLED.get(name, 'Number')}: {number}", True)


def report(published: list[Published], scanner: Scanner, show: bool) -> str:
    lines = [f"{'source':40}{'positive':>10}{'found':>8}{'negative':>10}{'left':>8}"]
    for source in sorted({one.source for one in published}):
        mine = [one for one in published if one.source == source]
        found = {one: bool(scanner.find(one.text)) for one in mine}
        counts = [
            (sum(one.positive is kind for one in mine), sum(found[one] and one.positive is kind for one in mine))
            for kind in (True, False)
        ]
        (positive, hits), (negative, alarms) = counts
        lines.append(f"{source:40}{positive:10}{hits:8}{negative:10}{negative - alarms:8}")
        lines += [
            f"    {'missed' if one.positive else 'alarm'}: {one.text!r}"
            for one in mine
            if show and found[one] is not one.positive
        ]
    for kind in (True, False):
        right = [bool(scanner.find(one.text)) is kind for one in published if one.positive is kind]
        lines.append(
            f"{'positive' if kind else 'negative'} strings: {len(right)}, {'found' if kind else 'left'}: {sum(right)}"
        )
    return "\n".join(lines)


def main(paths: list[str], show: bool) -> None:
    published = list(installed())
    for path in map(Path, paths):
        published += (gitleaks if (path / "cmd" / "generate").is_dir() else detect_secrets)(path)
    print(report(published, Scanner(RedactionPolicy()), show))


if __name__ == "__main__":
    main([path for path in sys.argv[1:] if path != "--show"], "--show" in sys.argv)
