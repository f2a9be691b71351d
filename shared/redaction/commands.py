"""Secrets that a command or a statement gives away by their place in it: `curl -u user:…`, `IDENTIFIED BY '…'`, a cookie."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from functools import partial

from shared.redaction.policy import RedactionPolicy
from shared.redaction.recogniser import Range, Recogniser
from shared.redaction.sensitive import Sensitive
from shared.redaction.values import judged

_Q = r"\\?[\"']"
_WORD = r"(?P<value>[^\s\"'|;&<>\\]{4,100})"
#: What must occur in the text, also where it is a list of arguments in JSON, and where the password is.
_PASSWORDS = (
    (r"(?i)sshpass", rf"sshpass\s+-p\s*(?:{_Q})?{_WORD}"),
    (
        r"(?i)mysql|mariadb",
        rf"(?:mysql|mysqldump|mysqladmin|mariadb)\b(?!\S*://)[^\n|;]{{0,80}}?\s-p(?:{_Q})?{_WORD}",
    ),
    (
        r"(?i)(?:docker|podman|registry|az|oc) login",
        rf"(?:docker|podman|helm registry|az|oc) login\b[^\n]{{0,80}}?\s-p[ =](?:{_Q})?{_WORD}",
    ),
    (r"(?i)curl|wget", rf"(?:curl|wget)\b[^\n]{{0,120}}?\s(?:-u|--user)[ =]?(?:{_Q})?[^\s:\"']{{1,60}}:{_WORD}"),
    (r"(?i)identified by", rf"identified by[ \t]+{_Q}{_WORD}"),
    (r"(?i)requirepass|masterauth", rf"(?:requirepass|masterauth)\s+(?:{_Q})?{_WORD}"),
    (r"(?i)login(?:\s|\\[nrt])", rf"login[ \t]+\S{{1,80}}[ \t]+password[ \t]+{_WORD}"),
    (r"(?i)sudo\s", rf"echo\s+(?:-n\s+)?(?:{_Q})?{_WORD}(?:{_Q})?\s*\|\s*sudo\s+-S"),
    (
        r"(?i)pass(?:word|wd)?\\{0,3}[\"'](?:\s|\\[nrt])",
        rf"(?:key|name)={_Q}[\w.:-]{{0,40}}pass(?:word|wd)?{_Q}\s+value={_Q}{_WORD}",
    ),
    (r"(?i)chpasswd", rf"echo\s+(?:{_Q})?[\w.-]{{1,60}}:{_WORD}(?:{_Q})?\s{{0,5}}\|\s{{0,5}}(?:sudo\s)?chpasswd"),
    (r"(?i)password-stdin", rf"echo\s+(?:-n\s+)?(?:{_Q})?{_WORD}(?:{_Q})?\s{{0,5}}\|[^\n]{{1,80}}--password-stdin"),
    (
        r"(?i)htpasswd|net[\"'\\,\s]{1,10}user",
        rf"(?:htpasswd\s+-\w{{0,5}}b\w{{0,5}}\s+\S{{1,80}}|net user)\s+\S{{1,60}}\s+(?!/){_WORD}",
    ),
    (r"(?i)smbclient|mount.cifs", rf"smbclient\b[^\n]{{0,80}}?\s-U\s*[\w.\\-]{{1,60}}%{_WORD}"),
    (
        r"(?i)redis-cli|mosquitto|zip\s|zip\\{0,3}[\"'],|mongo|useradd|usermod|openssl",
        rf"(?:redis-cli\b[^\n|;]{{0,80}}?\s-a|mosquitto_\w{{3}}\b[^\n|;]{{0,120}}?\s-P|\bzip\b[^\n|;]{{0,80}}?\s-P|"
        rf"\bmongo\w{{0,7}}\b[^\n|;]{{0,80}}?\s-p|user(?:add|mod)\b[^\n|;]{{0,80}}?\s-p|openssl enc\b[^\n|;]{{0,80}}?\s-k)\s+(?!-){_WORD}",
    ),
    (r"(?i)securestring", rf"convertto-securestring\s+(?:-string\s+)?{_Q}{_WORD}(?={_Q})"),
    (  # password = env("APP_LOGIN", "…"), process.env.APP_LOGIN || "…"
        r"(?si)(?:pass|pw).{0,80}env",
        rf"(?:pass(?:word|wd)?|pwd|pw)(?:{_Q})?\s{{0,3}}[:=]\s{{0,3}}[\w.]{{0,40}}env[\w.]{{0,60}}[(\[]?(?:{_Q}[\w.]{{1,60}}{_Q})?[)\]]?"
        rf"\s{{0,3}}(?:,|\|\||\?\?|or)\s{{0,3}}{_Q}{_WORD}(?={_Q})",
    ),
    (r"\$\{[A-Za-z0-9_]{0,60}:?[-=]", r"\$\{[A-Za-z0-9_]{0,40}PASS(?:WORD|WD)?:?[-=](?P<value>[^\s\"'{}]{4,100})\}"),
    (  # BasicAuth('dana', '…')
        r"(?i)(?:auth|login|credentials?)[\"'\\]{0,4}\s{0,3}[:=]?\s{0,3}\(",
        rf"(?:auth|login|credentials?){_Q}?\s{{0,3}}[:=]?\s{{0,3}}\(\s{{0,3}}{_Q}[\w.@+-]{{1,80}}{_Q}\s{{0,3}},\s{{0,3}}{_Q}{_WORD}(?={_Q})",
    ),
)
#: In a line of .pgpass and in prose, where only a value that is no word counts.
_TOLD = (
    (  # .pgpass
        r":(?:[0-9]{2,5}|\*):[A-Za-z0-9_*-]{1,60}:[A-Za-z0-9_.*-]{1,60}:[^\s]{4}",
        r"(?<=[\w*]):(?:[0-9]{2,5}|\*):[A-Za-z0-9_*-]{1,60}:[A-Za-z0-9_.*-]{1,60}:(?P<value>[^\s\"'|;&<>\\:]{5,100})(?![\w:])",
    ),
    (
        r"(?i)creds|credentials|login|account|zugangsdaten",
        rf"(?:creds|credentials?|logins?|account|zugangsdaten)(?:[ \t]{{0,3}}:|[ \t]+(?:are|is|sind))"
        rf"[ \t]{{1,3}}[\w.@+-]{{1,60}}[ \t]?[:/][ \t]?{_WORD}",
    ),
    (
        r"(?i)password|passwort",
        rf"(?<![^\s\"'`]){_WORD}[\"'`]?[ \t]+(?:as|is|als)[ \t]+(?:\w+[ \t]+){{1,2}}(?:password|passwort)\b",
    ),
)
#: Right behind a word of a script without spaces, where algorithms and lengths are, too: only what is no word or name of any kind.
_EAST_ASIAN = "密码|密碼|口令|パスワード|비밀번호"
_DIRECT = rf"(?:{_EAST_ASIAN})(?P<value>[A-Za-z0-9][!-~]{{6,60}}[A-Za-z0-9!#$%&*+=?@^~])"
_LOGIN = re.compile(
    rf"(?i)auth(?:{_Q})?\s{{0,3}}[:=]\s{{0,3}}(?:{_Q})?(?P<value>[A-Za-z0-9+/]{{8,400}}={{0,2}})(?![A-Za-z0-9+/=])"
)
_COOKIES = re.compile(rf"(?i)cookie(?:{_Q})?\s{{0,3}}[:=]\s{{0,3}}(?:{_Q})?(?P<pairs>[^\n]{{1,1000}})")
_SESSION = re.compile(rf"(?i)(?<![\w.-])(?=[\w.-]{{0,40}}(?:sess|sid|auth|token))[\w.-]{{2,60}}={_WORD}")
_SEED = re.compile(
    rf"(?i)(?:seed|recovery|mnemonic|backup)(?:[ _-]?(?:phrase|words))?(?:{_Q})?\s{{0,9}}(?:is|[:=])\s{{0,9}}(?:{_Q})?"
    r"(?P<value>(?:[a-z]{3,8}[ \n]){11,23}[a-z]{3,8})"
)


def _values(pattern: re.Pattern[str], text: str, policy: RedactionPolicy, by_sign: str = "=") -> Iterator[Range]:
    for match in pattern.finditer(text):
        if judged("password", match["value"], by_sign == "=", by_sign) is not None:
            yield match.span("value")


def _sessions(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for cookies in _COOKIES.finditer(text):
        for match in _SESSION.finditer(text, *cookies.span("pairs")):
            if judged("session_key", match["value"], quoted=True) is not None:
                yield match.span("value")


def _logins(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    """`user:password` in base64, as the credentials of Docker, npm and Basic authentication are kept."""
    for match in _LOGIN.finditer(text):
        try:
            user, sign, password = base64.b64decode(match["value"], validate=True).decode().partition(":")
        except ValueError:
            continue
        if sign and user and password and (user + password).isprintable():
            yield match.span("value")


def _seeds(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    return (match.span("value") for match in _SEED.finditer(text))


COMMANDS = (
    *(
        Recogniser(Sensitive.PASSWORD, (anchor,), partial(_values, re.compile(pattern, re.IGNORECASE)))
        for anchor, pattern in _PASSWORDS
    ),
    *(
        Recogniser(Sensitive.PASSWORD, (anchor,), partial(_values, re.compile(pattern, re.IGNORECASE), by_sign="is"))
        for anchor, pattern in _TOLD
    ),
    Recogniser(Sensitive.PASSWORD, (_EAST_ASIAN,), partial(_values, re.compile(_DIRECT), by_sign=" ")),
    Recogniser(Sensitive.SECRET, ("(?i)cookie",), _sessions),
    Recogniser(Sensitive.PASSWORD, (r"(?i)auth[\"'\\]{0,5}\s{0,3}[:=]",), _logins),
    Recogniser(Sensitive.PASSWORD, (r"(?i)seed|recovery|mnemonic|backup",), _seeds),
)
