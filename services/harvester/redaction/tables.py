"""Secrets in a column whose head names them: tables of Markdown, CSV and TSV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache, partial

from services.harvester.redaction import names
from services.harvester.redaction.policy import RedactionPolicy
from services.harvester.redaction.recogniser import Range, Recogniser
from services.harvester.redaction.sensitive import Sensitive
from services.harvester.redaction.values import judged

#: A head is a line of few short cells; the escape of a line break ends a line too.
_LINE = re.compile(r"[^\n]{1,2000}")
_SIGNS = ("|", "\t", ";", ",")
_MOST_CELLS = 40
#: Lines of code have commas, too.
_NO_CODE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[^\s()\[\]{}<>.:/'\"]{6,}")
_NAME = re.compile(r"[^\W\d][\w .()#/:-]{0,40}")


def _columns(wanted: Sensitive, text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for found, start, end in _all_columns(text):
        if found is wanted:
            yield start, end


@lru_cache(maxsize=1)
def _all_columns(text: str) -> tuple[tuple[Sensitive, int, int], ...]:
    return tuple(_search(text))


def _search(text: str) -> Iterator[tuple[Sensitive, int, int]]:
    """Each line is compared with the last head only, so a text is read once; remembers one text, as assignments do."""
    head: dict[int, str] = {}
    sign, width = "", 0
    words = iter(names.find_words(text))
    word = next(words, None)
    for line in _LINE.finditer(text):
        cells = _cells(line[0], sign) if sign else []
        if sign and len(cells) == width:
            for place, name in head.items():
                start, end, value = cells[place]
                plausible = sign != "," or _NO_CODE.fullmatch(value)
                if plausible and (found := judged(name, value, quoted=True, by_sign=",")) is not None:
                    yield found, line.start() + start, line.start() + end
            continue
        while word is not None and word[0] < line.start():
            word = next(words, None)
        told = word is not None and word[0] < line.end()
        sign, width, head = _head(line[0]) if told else ("", 0, {})


def _head(line: str) -> tuple[str, int, dict[int, str]]:
    """The sign that separates the cells of a head, how many there are, and which of them announce a secret."""
    for sign in _SIGNS:
        if sign in line and len(line) <= 400:
            cells = _cells(line, sign)
            named = {
                place: cell for place, (_, _, cell) in enumerate(cells) if len(cell) <= 40 and names.announced(cell)
            }
            if named and len(cells) <= _MOST_CELLS and _is_head(sign, cells):
                return sign, len(cells), named
    return "", 0, {}


def _is_head(sign: str, cells: list[tuple[int, int, str]]) -> bool:
    """Whether all cells are names; beside the frame of a Markdown table there are empty ones."""
    return all(_NAME.fullmatch(cell) or (sign == "|" and not cell) for _, _, cell in cells)


def _cells(line: str, sign: str) -> list[tuple[int, int, str]]:
    """Where each cell's text begins and ends, without white space, quotes and code marks around it."""
    cells, at = [], 0
    for part in line.split(sign, _MOST_CELLS):
        text = part.strip(" \t\r`\"'*")
        start = at + (part.find(text) if text else 0)
        cells.append((start, start + len(text), text))
        at += len(part) + len(sign)
    return cells


_HEAD = (
    r"(?i)(?:pass|pwd|secret|token|key|credential|kennwort|senha|contrase|parol|密码|パスワード)[^\n]{0,160}[|,;\t\n]"
)
TABLES = (
    Recogniser(Sensitive.PASSWORD, (_HEAD,), partial(_columns, Sensitive.PASSWORD)),
    Recogniser(Sensitive.SECRET, (_HEAD,), partial(_columns, Sensitive.SECRET)),
)
