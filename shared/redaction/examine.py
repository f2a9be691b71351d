"""Examine every string of a conversation: messages, tool calls with their JSON arguments, tools, and whatever else it holds."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import Any, Literal

from shared.redaction import names
from shared.redaction.scanner import Scanner
from shared.redaction.sensitive import PLACEHOLDER, Sensitive

Decision = Literal["clean", "redacted", "quarantined"]
_DEEPEST = 64  # levels; what is nested deeper cannot be read and is held back
_UNREAD = "[nested too deeply]"
_DOCUMENT = frozenset("{[")  # what a text begins with that may be a JSON document
#: Keys whose value is text of its own: they give it no meaning that a scanner could use.
_PLAIN = frozenset({"content", "role", "text", "arguments", "value", "name", "type", "id", "description"})
#: Keys that name what a sibling holds, as headers, environments, dialogues and the forms of a browser's tool do, in any letter case.
_LABELS = (
    "name", "key", "label", "field", "selector", "element", "locator", "xpath", "placeholder", "target", "header", "variable", "property",
    "parameterkey", "parametername", "optionname", "prompt", "expect", "question", "id", "type",
)  # fmt: skip
_LABELLED = frozenset((
    "value", "text", "input", "content", "data", "string", "newvalue", "new_value", "parametervalue", "optionvalue", "send", "keys",
    "answer", "response",
))  # fmt: skip
_LONGEST_LABEL = 120
_CONTROL = re.compile(r"(?i)[ _-]?(?:text)?(?:input|field|box|area|control|element)?[\W_]*$")
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_LOGINS = frozenset({"auth", "basic_auth", "basicauth", "http_auth", "login", "credentials"})  # a user and a password
_PROGRAMS = ("command", "cmd", "program", "executable")
_PROGRAM = re.compile(r"[A-Za-z_./~][\w./-]{0,80}")
_LONGEST_COMMAND = 4000
_COLUMNS, _ROWS = ("columns", "headers", "header", "fields"), frozenset({"rows", "data", "values", "records"})


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
    """Look at all strings, keys and whole numbers of JSON-like values; the values given are not changed.

    Looks again until nothing is found, since a placeholder in a key takes its meaning from it: beside `v1` an address
    may be a version, beside a placeholder it is none.
    """
    walk = _Walk(scanner)
    copy, before = walk.value(values, "", 0), 0
    while (found := walk.found.total()) > before:
        copy, before = walk.value(copy, "", 0), found
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
        columns = _columns(mapping)
        program = next((mapping[key] for key in _PROGRAMS if key in mapping), "")
        for key, value in mapping.items():
            name = label if key.lower() in _LABELLED else "" if key in _PLAIN else key
            table = columns and key.lower() in _ROWS and isinstance(value, list)
            copy[self.key(key, copy)] = (
                self.rows(value, columns, depth + 1) if table else self.member(key, value, name, program, depth)
            )
        return copy

    def member(self, key: str, value: Any, name: str, program: Any, depth: int) -> Any:
        if key == "arguments" and isinstance(value, str):  # a JSON document whatever it begins with
            return self.document(value, depth)
        if isinstance(value, list) and isinstance(program, str):
            return self.items(value, name, depth + 1, program)
        return self.value(value, name, depth + 1)

    def rows(self, rows: list[Any], columns: list[str], depth: int) -> list[Any]:
        """The rows of a table, where the name of a column names its cells."""
        return [
            [self.value(cell, column, depth + 2) for column, cell in zip(columns, row, strict=True)]
            if isinstance(row, list) and len(row) == len(columns)
            else self.value(row, "", depth + 1)
            for row in rows
        ]

    def items(self, values: list[Any] | tuple[Any, ...], name: str, depth: int, program: str = "") -> list[Any]:
        """In an argument list a flag names what follows it, of a pair the first names the second, and all are one command."""
        copies: list[Any] = []
        named = name
        for value in values:
            copies.append(self.value(value, named, depth + 1))
            named = (len(values) == 2 and _names_the_pair(values, name)) or _names_the_next(value) or name
        arguments = self.command(copies, program)
        return copies if arguments == copies else self.items(arguments, name, depth, program)

    def command(self, arguments: list[Any], program: str) -> list[Any]:
        """The arguments without the secrets that only the whole command line gives away."""
        words = [*([program] if program else []), *arguments]
        if not _is_command(words):
            return arguments
        line, starts = " ".join(map(str, words)), [0, *accumulate(len(str(word)) + 1 for word in words)]
        for start, end, sensitive in reversed(self.scanner.find(line)):
            place = bisect_right(starts, start) - 1
            if sensitive.group == "secret" and end < starts[place + 1] and isinstance(words[place], str):
                self.record(sensitive, line[start:end])
                first, last = start - starts[place], end - starts[place]
                words[place] = words[place][:first] + sensitive.placeholder + words[place][last:]
        return words[len(words) - len(arguments) :]

    def key(self, key: str, taken: dict[str, Any]) -> str:
        if len(key) < 8 or key in _PLAIN:
            return key
        cleaned = self.text(key, "")
        numbered = (f"{cleaned} {number}" for number in count(2))
        return cleaned if cleaned not in taken else next(key for key in numbered if key not in taken)

    def text(self, text: str, name: str) -> str:
        cleaned, found = self.scanner.clean(text, name)
        for finding in found:
            self.record(finding.sensitive, finding.value)
        return cleaned

    def record(self, sensitive: Sensitive, value: str) -> None:
        self.found[sensitive] += 1
        self.hidden[value] = sensitive

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
    """`DB_PASSWORD` of {"Name": "DB_PASSWORD", "Value": …}, `#password` of {"selector": "#password", "text": …}."""
    members = {key.lower(): value for key, value in mapping.items()}
    if _LABELLED.isdisjoint(members):
        return ""
    for key in _LABELS:
        label = members.get(key)
        if isinstance(label, str) and len(label) <= _LONGEST_LABEL and (name := _announcing(label)):
            return name
    return ""


def _columns(mapping: dict[str, Any]) -> list[str]:
    """What the columns of a table announce; nothing where none does, or there is no table."""
    columns: list[Any] = next((mapping[key] for key in _COLUMNS if isinstance(mapping.get(key), list)), [])
    titles = [column.get("name") if isinstance(column, dict) else column for column in columns]
    named = [_announcing(title) if isinstance(title, str) and len(title) <= 40 else "" for title in titles]
    return named if any(named) else []


def _announcing(label: str) -> str:
    """The label where it announces a secret, without what only says that it is a field of a form."""
    if PLACEHOLDER.search(label):  # `[password]` is a name that we gave ourselves
        return ""
    name = _CONTROL.sub("", label)
    return name if names.announced(name) or name.lower() in _CREDENTIALS else ""


def _names_the_pair(pair: list[Any] | tuple[Any, ...], name: str) -> str:
    """What names the second of two: the first, or that both are a user and a password that is no word."""
    first, second = pair
    if name.lower() in _LOGINS and isinstance(second, str) and not second.isalpha():
        return "password"
    return _announcing(first) if isinstance(first, str) and len(first) <= _LONGEST_LABEL else ""


def _names_the_next(item: Any) -> str:
    return _announcing(item) if isinstance(item, str) and item.startswith("-") and len(item) <= _LONGEST_LABEL else ""


def _is_command(words: list[Any]) -> bool:
    """Whether texts may be a program and its arguments; JSON documents are examined by themselves."""
    if len(words) < 2 or not (isinstance(words[0], str) and _PROGRAM.fullmatch(words[0])):
        return False
    plain = all(isinstance(word, (str, int)) and str(word).lstrip()[:1] not in _DOCUMENT for word in words)
    return plain and sum(len(str(word)) for word in words) <= _LONGEST_COMMAND


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
