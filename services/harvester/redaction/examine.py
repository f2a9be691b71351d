"""Examine every string of a conversation: messages, tool calls with their JSON arguments, tools, and whatever else it holds."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from services.harvester.redaction import names
from services.harvester.redaction.scanner import Scanner
from services.harvester.redaction.sensitive import Sensitive

Decision = Literal["clean", "redacted", "quarantined"]
_DEEPEST = 64  # levels; what is nested deeper cannot be read and is held back
_UNREAD = "[nested too deeply]"
_DOCUMENT = frozenset("{[")  # what a text begins with that may be a JSON document
#: Keys whose value is text of its own: they give it no meaning that a scanner could use.
_PLAIN = frozenset({"content", "role", "text", "arguments", "value", "name", "type", "id", "description"})
#: Keys that name what a sibling holds, as headers, environments and the forms of a browser's tool do.
_LABELS = (
    "name",
    "key",
    "label",
    "field",
    "selector",
    "element",
    "locator",
    "placeholder",
    "target",
    "header",
    "variable",
    "id",
    "type",
)
_LABELLED = frozenset({"value", "text", "input", "content", "data", "string"})
_LONGEST_LABEL = 120
_CONTROL = re.compile(r"(?i)[ _-]?(?:text)?(?:input|field|box|area|control|element)?[\W_]*$")
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})


@dataclass(frozen=True)
class Examined:
    """A copy of the values without what is sensitive, what that was, and whether the record is to be held back.

    The copy is redacted even where it is quarantined. `unread`: something was nested too deeply to be examined.
    `hidden`: what the copy has placeholders for, and which; of words found in two classes the last.
    """

    values: Any
    found: Counter[Sensitive] = field(default_factory=Counter)
    quarantined: bool = False
    unread: bool = False
    hidden: dict[str, Sensitive] = field(default_factory=dict)

    @property
    def decision(self) -> Decision:
        if self.quarantined:
            return "quarantined"
        return "redacted" if self.found else "clean"


def examine(values: Any, scanner: Scanner) -> Examined:
    """Look at all strings, keys and whole numbers of JSON-like values; the values given are not changed."""
    walk = _Walk(scanner)
    copy = walk.value(values, "", 0)
    held_back = walk.unread or any(scanner.policy.action(sensitive) == "quarantine" for sensitive in walk.found)
    return Examined(copy, walk.found, held_back, walk.unread, walk.hidden)


class _Walk:
    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.found: Counter[Sensitive] = Counter()
        self.hidden: dict[str, Sensitive] = {}
        self.unread = False

    def value(self, value: Any, name: str, depth: int) -> Any:
        if depth > _DEEPEST:
            self.unread = True
            return _UNREAD
        match value:
            case str():
                return self.document(value, depth) if value.lstrip()[:1] in _DOCUMENT else self.text(value, name)
            case dict():
                return self.mapping(value, name, depth)
            case list() | tuple():
                return self.items(value, name, depth)
            case int() if not isinstance(value, bool):
                return self.number(value, name)
            case _:
                return value

    def mapping(self, mapping: dict[str, Any], outer: str, depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        label = _label(mapping) or outer
        for key, value in mapping.items():
            name = label if key in _LABELLED else "" if key in _PLAIN else key
            called = key == "arguments" and isinstance(value, str)  # a JSON document whatever it begins with
            copy[self.key(key, copy)] = self.document(value, depth) if called else self.value(value, name, depth + 1)
        return copy

    def items(self, values: list[Any] | tuple[Any, ...], name: str, depth: int) -> list[Any]:
        """In an argument list a flag names what follows it, and of a pair the first names the second."""
        copies: list[Any] = []
        named = name
        for value in values:
            copies.append(self.value(value, named, depth + 1))
            named = (isinstance(value, str) and _names_the_next(value, len(copies) == 1 and len(values) == 2)) or name
        return copies

    def key(self, key: str, taken: dict[str, Any]) -> str:
        if len(key) < 8 or key in _PLAIN:
            return key
        cleaned = self.text(key, "")
        numbered = (f"{cleaned} {number}" for number in count(2))
        return cleaned if cleaned not in taken else next(key for key in numbered if key not in taken)

    def text(self, text: str, name: str) -> str:
        cleaned, found = self.scanner.clean(text, name)
        for finding in found:
            self.found[finding.sensitive] += 1
            self.hidden[finding.value] = finding.sensitive
        return cleaned

    def number(self, number: int, name: str) -> int | str:
        digits = str(number)
        cleaned = self.text(digits, name)
        return number if cleaned == digits else cleaned

    def document(self, text: str, depth: int) -> str:
        """A string that holds a JSON document, as a call's arguments do: read, examined, and written as valid JSON."""
        if not self.scanner.suspicious(text):
            return text
        try:
            values = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            return self.text(text, "")
        copy = self.value(values, "", depth + 1)
        return text if copy == values else _like(text, copy)


def _label(mapping: dict[str, Any]) -> str:
    """`DB_PASSWORD` of {"name": "DB_PASSWORD", "value": …}, `#password` of {"selector": "#password", "text": …}."""
    if _LABELLED.isdisjoint(mapping):
        return ""
    for key in _LABELS:
        label = mapping.get(key)
        if isinstance(label, str) and len(label) <= _LONGEST_LABEL and (name := _announcing(label)):
            return name
    return ""


def _announcing(label: str) -> str:
    """The label where it announces a secret, without what only says that it is a field of a form."""
    name = _CONTROL.sub("", label)
    return name if names.announced(name) or name.lower() in _CREDENTIALS else ""


def _names_the_next(item: str, first_of_pair: bool) -> str:
    if len(item) > _LONGEST_LABEL or not (first_of_pair or item.startswith("-")):
        return ""
    return _announcing(item)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one with the same key twice would hide the first value, and is examined as plain text instead."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _like(text: str, values: Any) -> str:
    """The values as JSON in about the form of the text they come from."""
    if "\n" in text:
        return json.dumps(values, ensure_ascii=False, indent=2)
    separators = None if '": ' in text or ", " in text else (",", ":")
    return json.dumps(values, ensure_ascii=False, separators=separators)
