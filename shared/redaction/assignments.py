"""Secrets that only their name gives away: what is assigned to `password`, `api_key` and the like, in code or in prose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import takewhile
from string import ascii_letters, digits

from shared.redaction import names
from shared.redaction.policy import RedactionPolicy
from shared.redaction.recogniser import Range, Recogniser
from shared.redaction.sensitive import PLACEHOLDER, Sensitive
from shared.redaction.values import RARE, judged

_BEFORE = 60  # characters of a name before its telling word
_NAME_END = re.compile(r"[A-Za-z0-9_\-\u00c0-\u024f\u0370-\u052f]{0,30}")
_NAME_SIGNS = ascii_letters + digits + "_.-"
_QUERY = re.compile(r"[?&\"']|&amp;")
_NEXT_FIELD = re.compile(r"&(?:amp;)?[A-Za-z_][\w.-]*=")  # of a query or a form
_TYPING = (
    r"\.(?:fill|type|send_?keys|sendKeys|press_?[sS]equentially|setValue|set_value|setText|val|input|keyboard\.type)\("
)
#: Between name and value. Each alternative is bounded, so that a place is tried in constant time.
_SIGN = re.compile(
    r"(?P<closers>(?:\\{0,3}[\"'`\])*]|\[\d{0,3}\]){0,5})"  # the end of a quoted name
    r"(?P<whose>'s(?=[ \t])|[ \t]?#?\d{1,2}(?=[ \t]?[:=])|"
    r"[ \t](?:\([^)\n]{1,30}\)|API|(?:for|of|to(?![ \t][^\W\d]{1,40}=\S)|on|für|para|de|pour|для|от)"
    r"[ \t][^\W\d](?:[^\W\d]|[ @.'-]){1,40}?))?"
    r"(?P<sign>"
    rf"{_TYPING}"
    r"|</(?:key|name)>\s{0,20}<(?:string|value)>"  # of property lists
    r"|</t[dh]>\s{0,20}<t[dh][^<>\n]{0,80}>|>(?=[^<\n]{4,200}</)"
    r"|[ \t]{0,20}\|[ \t]{0,20}(?=[^|\s])"
    r"|,?\s{0,12}(?:\\{0,3}[\"'])?value(?:\\{0,3}[\"'])?\s{0,3}[:=]\s{0,3}"  # `name: DB_PASSWORD, value: …`
    r"|[ \t]{0,12}(?::=|=>|->|→|⇒|~|={1,3}|!==?|:\*{0,2}|,(?=[ ]{0,12}\\{0,3}[\"'])|\((?=[ ]?\\{0,3}[\"']))[ \t]{0,12}"
    r"(?:(?:[|>][+-]?)?(?:\r?\n[ \t]{0,8}){1,2})?"
    r"|[ \t]{1,3}[-–—][ \t]{1,3}"
    r"|[ \t]{0,2}(?:是|为|為|は|が|는|은|이|가|है|คือ)[ \t]{0,2}:?[ \t]{0,2}"
    r"|[ \t]{1,3}(?:is|are|was|to|ist|lautet|war|es|est|este|é|è|są|são|jest|to[ ]jest|je|är|er|on|là|adalah|هي|הוא|היא|είναι|это)"
    r"[ \t:]{1,3}(?:now |still |jetzt |set to )?"
    r"|[ \t]{1,3}(?=\\{0,3}[\"'`])"
    r"|(?(whose)(?!)|(?P<nothing>[ \t]{1,4}|[ \t]{0,3}(?:\r?\n[ \t]{0,8}){1,2})(?=\S))"
    r")",
    re.IGNORECASE,
)
_ASSIGNS, _DIGIT = re.compile(r"[:=>|(,]"), re.compile(r"\d")
_EAST_ASIAN = re.compile(r"[\u3000-\u9fff\uac00-\ud7af]")
_VALUE_OF = re.compile(r"(?i)value")
_LABEL = re.compile(r"(?i)(?:name|key|id|field|variable|setting)\W{1,6}$")
_FLAG_SIGN = re.compile(r"(?P<closers>)(?P<whose>)(?P<sign>=|[ \t]{1,2}(?=\S))(?P<nothing>)")
_OPEN = r"(?:\*{1,2}|<[a-z]{1,8}>)?(?:[frbu@])?(?P<quote>\\{0,3}[\"'`])"
_VALUE = re.compile(
    rf"(?:{_OPEN}(?P<quoted>(?:(?!(?P=quote))[^\n]){{1,300}})(?P=quote)|(?:\*{{1,2}}|<[a-z]{{1,8}}>|[「『【])?(?P<bare>[^\s\"'`,;<>|。、「」『』【】\\]{{4,300}}))"
)


def _assigned(wanted: Sensitive, text: str) -> Iterator[Range]:
    for found, start, end in _all_assigned(text):
        if found is wanted:
            yield start, end


@lru_cache(maxsize=1)
def _all_assigned(text: str) -> tuple[tuple[Sensitive, int, int], ...]:
    """Remembers one text, since all recognisers of this module are asked about the same one in turn."""
    return tuple(_search(text))


def _search(text: str) -> Iterator[tuple[Sensitive, int, int]]:
    """From each telling word back to where its name begins, and on to its sign and value: a bounded look at each."""
    at = 0
    for begin, word_end in names.find_words(text):
        if begin < at or _in_placeholder(text, begin, word_end):
            continue
        end = _NAME_END.match(text, word_end).end()  # type: ignore[union-attr]
        name = text[_name_start(text, begin, at) : end]
        at = end
        sign = (_FLAG_SIGN.match(text, end) if name.startswith("-") else None) or _SIGN.match(text, end)
        value = _VALUE.match(text, sign.end()) if sign else None
        if sign is None or value is None or not _announces(text, end - len(name), name, sign, value):
            continue
        start, stop, quoted = _extent(text, end - len(name), value)
        found = judged(name, text[start:stop], quoted, _kind_of(sign))
        if found is not None:
            at = stop
            yield found, start, stop


def _in_placeholder(text: str, begin: int, end: int) -> bool:
    """Whether a word is one of our own: `[password]` names nothing that follows it."""
    opened = text.rfind("[", max(0, begin - 30), begin)
    return opened >= 0 and PLACEHOLDER.match(text, opened, end + 20) is not None


def _name_start(text: str, at: int, floor: int) -> int:
    begin = max(floor, at - _BEFORE)
    head = text[begin:at]
    if head.isascii():
        return begin + len(head.rstrip(_NAME_SIGNS))
    named = (sign.isalnum() or sign in _NAME_SIGNS for sign in reversed(head))
    return at - sum(1 for _ in takewhile(bool, named))


def _extent(text: str, name: int, value: re.Match[str]) -> tuple[int, int, bool]:
    """Where the value begins and ends, and whether it is quoted."""
    if value["quoted"] is not None:
        return *value.span("quoted"), True
    start = value.start("bare")
    bare = value["bare"]
    if name == 0 or _QUERY.match(text[name - 1]):
        field = _NEXT_FIELD.split(bare, maxsplit=1)[0]
        bare = bare if RARE.search(field) else field
    if bare.isascii() is False and bare[0].isascii():  # words of a script without spaces may follow it
        bare = _EAST_ASIAN.split(bare, maxsplit=1)[0]
    return start, start + len(bare.rstrip(".,:*" if RARE.search(bare[:-1]) else ".,:!?)&*#")), False


def _kind_of(sign: re.Match[str]) -> str:
    """The sign in the terms of `judged`."""
    text = sign["sign"].strip()
    if sign["nothing"]:
        return " "
    if text.startswith(",") and not text.endswith((":", "=")):
        return ","
    if text == sign["sign"] == "=":
        return "="
    return ":" if text[:1] in tuple("=:(!.>|,-~→⇒v") or text.startswith("</") else "is"


def _announces(text: str, begin: int, name: str, sign: re.Match[str], value: re.Match[str]) -> bool:
    """Whether the sign between name and value assigns: `pass` is a word of many uses, and a `value` is one of a name."""
    if _VALUE_OF.search(sign["sign"]) and not _LABEL.search(text, max(0, begin - 20), begin):
        return False
    if not names.ONLY_SHORT.fullmatch(name) or _ASSIGNS.search(sign["sign"]) or name.startswith("-"):
        return True
    statement = "\n" in sign["sign"]  # of Python
    return not statement and _DIGIT.search(value["quoted"] or value["bare"]) is not None


def _passwords(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    return _assigned(Sensitive.PASSWORD, text)


def _secrets(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    return _assigned(Sensitive.SECRET, text)


ASSIGNMENTS = (
    Recogniser(
        Sensitive.PASSWORD,
        (*names.anchors(names.PASSWORD_WORDS, names.PASSWORD_WORDS_BEYOND), "(?i)(?:pass|pw|p/w|psk|pin|mdp)[^A-Za-z]"),
        _passwords,
    ),
    Recogniser(Sensitive.SECRET, names.anchors(names.SECRET_WORDS, names.SECRET_WORDS_BEYOND), _secrets),
    Recogniser(Sensitive.SECRET, names.anchors((names.SERVICE_WORDS,), ()), _secrets),
)
