"""Secrets that a command or a statement gives away by their place in it: `curl -u user:…`, `IDENTIFIED BY '…'`, a cookie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from services.harvester.redaction.assignments import judged
from services.harvester.redaction.policy import RedactionPolicy
from services.harvester.redaction.recogniser import Range, Recogniser
from services.harvester.redaction.sensitive import Sensitive

_Q = r"\\?[\"']"
_WORD = r"(?P<value>[^\s\"'|;&<>\\]{4,100})"
_PASSWORDS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bsshpass\s+-p\s*(?:{_Q})?{_WORD}",
        rf"\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^\n|;]{{0,80}}?\s-p(?:{_Q})?{_WORD}",
        rf"\b(?:docker|podman|helm registry|az|oc) login\b[^\n]{{0,80}}?\s-p[ =](?:{_Q})?{_WORD}",
        rf"\b(?:curl|wget)\b[^\n]{{0,120}}?\s(?:-u|--user)[ =]?(?:{_Q})?[^\s:\"']{{1,60}}:{_WORD}",
        rf"\bidentified by\s+{_Q}{_WORD}",
        rf"\b(?:requirepass|masterauth)\s+(?:{_Q})?{_WORD}",
        rf"\blogin[ \t]+\S{{1,80}}[ \t]+password[ \t]+{_WORD}",
        rf"\becho\s+(?:-n\s+)?(?:{_Q})?{_WORD}(?:{_Q})?\s*\|\s*sudo\s+-S",
        rf"\b(?:key|name)={_Q}[\w.:-]{{0,40}}pass(?:word|wd)?{_Q}\s+value={_Q}{_WORD}",
    )
)
_COOKIE = re.compile(
    rf"(?i)cookie(?:{_Q})?\s*[:=]\s*(?:{_Q})?[^\n]{{0,200}}?(?:\w{{0,20}}sess\w{{0,10}}|sid|auth\w{{0,10}}|\w{{0,20}}token)={_WORD}"
)
_SEED = re.compile(
    rf"(?i)(?:seed|recovery|mnemonic|backup)(?:[ _-]?(?:phrase|words))?(?:{_Q})?\s*(?:is|[:=])\s*(?:{_Q})?"
    r"(?P<value>(?:[a-z]{3,8}[ \n]){11,23}[a-z]{3,8})"
)


def _values(patterns: tuple[re.Pattern[str], ...], name: str, text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for pattern in patterns:
        for match in pattern.finditer(text):
            if judged(name, match["value"], quoted=True) is not None:
                yield match.span("value")


def _seeds(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    return (match.span("value") for match in _SEED.finditer(text))


COMMANDS = (
    Recogniser(
        Sensitive.PASSWORD,
        (
            r"(?i)sshpass|(?:docker|podman|registry|az|oc) login|identified by|requirepass|masterauth|sudo\s",
            r"(?i)mysql|mariadb|curl|wget",
            r"(?i)login\s|login\\[nrt]|pass(?:word|wd)?\\{0,3}[\"'](?:\s|\\[nrt])",
        ),
        partial(_values, _PASSWORDS, "password"),
    ),
    Recogniser(Sensitive.SECRET, ("(?i)cookie",), partial(_values, (_COOKIE,), "session_key")),
    Recogniser(Sensitive.PASSWORD, (r"(?i)seed|recovery|mnemonic|backup",), _seeds),
)
