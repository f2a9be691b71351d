"""Secrets in a column whose head names them: Markdown, CSV and TSV, what databases print in frames, columns by spaces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import NamedTuple

from shared.redaction import names
from shared.redaction.policy import RedactionPolicy
from shared.redaction.recogniser import Range, Recogniser
from shared.redaction.sensitive import Sensitive
from shared.redaction.values import judged

#: A head is a line of few short cells; the escape of a line break ends a line too.
_LINE = re.compile(r"[^\n]{1,2000}")
_SPACES = "  "  # two or more of them; cells belong to the head that begins or ends where they do
_SIGNS = ("|", "\t", ";", ",", _SPACES)
_MOST_CELLS = 40
_BARS = str.maketrans("│┃║", "|||")
_RULE = re.compile(r"[-+|:=\s\u2500-\u257f]+")  # between head and rows
#: Lines of code have commas and columns, too.
_NO_CODE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[^\s()\[\]{}<>.:/'\"]{6,}")
_NAME = re.compile(r"[^\W\d][\w .()#/:-]{0,40}")
_COLUMN = re.compile(r"\S+(?: \S+)*")
#: What follows a head of columns by spaces that is not in capitals: a rule, or the first row of a data frame with its index.
_UNDER_A_HEAD = re.compile(r"\n(?:[ ]*-{3,}[ -]*(?:\n|$)|\d{1,6}[ ]{2})")

Cell = tuple[int, int, str]


class _Head(NamedTuple):
    """What separates the cells, how many there are, and which of them announce a secret."""

    sign: str
    width: int
    named: dict[int, Cell]

    def secrets(self, line: str) -> list[tuple[str, Cell]] | None:
        """The name and the cell of each secret there may be in a row; None where the line is none."""
        cells = _cells(line, self.sign)
        if self.sign == _SPACES:
            pairs = [(head[2], cell) for head in self.named.values() for cell in cells if _aligned(head, cell)]
            return pairs if pairs and len(cells) > 1 else None
        if len(cells) != self.width:
            return None
        return [(head[2], cells[place]) for place, head in self.named.items()]


def _aligned(head: Cell, cell: Cell) -> bool:
    return head[0] == cell[0] or head[1] == cell[1]


def _columns(wanted: Sensitive, text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for found, start, end in _all_columns(text):
        if found is wanted:
            yield start, end


@lru_cache(maxsize=1)
def _all_columns(text: str) -> tuple[tuple[Sensitive, int, int], ...]:
    return tuple(_search(text))


def _search(text: str) -> Iterator[tuple[Sensitive, int, int]]:
    """Each line is compared with the last head only, so a text is read once; remembers one text, as assignments do."""
    head: _Head | None = None
    words = iter(names.find_words(text))
    word = next(words, None)
    for line in _LINE.finditer(text):
        bare = line[0].translate(_BARS) if head and not line[0].isascii() else line[0]
        if head and _RULE.fullmatch(bare):
            continue
        if head and (secrets := head.secrets(bare)) is not None:
            for name, (start, end, value) in secrets:
                plausible = head.sign not in (",", _SPACES) or _NO_CODE.fullmatch(value)
                if plausible and (found := judged(name, value, quoted=True, by_sign=",")) is not None:
                    yield found, line.start() + start, line.start() + end
            continue
        while word is not None and word[0] < line.start():
            word = next(words, None)
        named = word is not None and word[0] < line.end()
        head = _head(line[0].translate(_BARS), bool(_UNDER_A_HEAD.match(text, line.end()))) if named else None


def _head(line: str, underlined: bool) -> _Head | None:
    for sign in _SIGNS:
        if sign in line and len(line) <= 400:
            cells = _cells(line, sign)
            named = {place: cell for place, cell in enumerate(cells) if len(cell[2]) <= 40 and names.announced(cell[2])}
            if named and len(cells) <= _MOST_CELLS and _is_head(sign, cells, underlined):
                return _Head(sign, len(cells), named)
    return None


def _is_head(sign: str, cells: list[Cell], underlined: bool) -> bool:
    """Whether all cells are names; beside the frame of a table there are empty ones, and prose has spaces, too."""
    if sign == _SPACES and not (len(cells) > 1 and (underlined or all(cell[2].isupper() for cell in cells))):
        return False
    return all(_NAME.fullmatch(cell) or (sign == "|" and not cell) for _, _, cell in cells)


def _cells(line: str, sign: str) -> list[Cell]:
    """Where each cell's text begins and ends, without white space, quotes and code marks around it."""
    if sign == _SPACES:
        return [(*cell.span(), cell[0]) for cell in _COLUMN.finditer(line)]
    cells, at = [], 0
    for part in line.split(sign, _MOST_CELLS):
        text = part.strip(" \t\r`\"'*")
        start = at + (part.find(text) if text else 0)
        cells.append((start, start + len(text), text))
        at += len(part) + len(sign)
    return cells


_HEAD = r"(?i)(?:pass|pwd|secret|token|key|credential|kennwort|senha|contrase|parol|密码|パスワード)[^\n]{0,160}(?:[|,;\t\n]|[│┃║])"
TABLES = (
    Recogniser(Sensitive.PASSWORD, (_HEAD,), partial(_columns, Sensitive.PASSWORD)),
    Recogniser(Sensitive.SECRET, (_HEAD,), partial(_columns, Sensitive.SECRET)),
)
