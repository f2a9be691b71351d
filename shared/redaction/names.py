"""Names that give their value away: what passwords, tokens and keys are called, in code and in the languages of their owners."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

from shared.redaction.positions import Positions
from shared.redaction.sensitive import Sensitive
from shared.redaction.tokens import RULES

_WORDS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
PASSWORD_WORDS, PASSWORD_WORDS_BEYOND = tuple(_WORDS["password"]["words"]), tuple(_WORDS["password"]["beyond"])
SECRET_WORDS, SECRET_WORDS_BEYOND = tuple(_WORDS["secret"]["words"]), tuple(_WORDS["secret"]["beyond"])
SHORT_WORDS: str = _WORDS["password"]["short"]

#: Service -> the forms of its keys, which its name in any case announces.
SERVICES = {
    re.compile(f"(?i){name}"): re.compile("|".join(forms))
    for name, forms in tomllib.loads((RULES / "gitleaks.toml").read_text())["named"].items()
}
SERVICE_WORDS = "|".join(pattern.pattern.removeprefix("(?i)") for pattern in SERVICES)
_ANY_SERVICE = re.compile(f"(?i){SERVICE_WORDS}")
_PASSWORD = re.compile("(?i)" + "|".join((*PASSWORD_WORDS, *PASSWORD_WORDS_BEYOND, SHORT_WORDS)))
_SECRET = re.compile("(?i)" + "|".join((*SECRET_WORDS, *SECRET_WORDS_BEYOND)))
#: Every word of a name with meaning, the longer before the shorter.
WORD = re.compile(
    "(?i)"
    + "|".join(
        (*SECRET_WORDS, *SECRET_WORDS_BEYOND, *PASSWORD_WORDS, *PASSWORD_WORDS_BEYOND, SHORT_WORDS, SERVICE_WORDS)
    )
)
ONLY_SHORT = re.compile(r"(?i)-{0,2}(?:pass|pw|p/w|psk|pin|mdp)")
_PIN = re.compile(r"(?i)(?:.*[^a-z])?(?:pin(?:[ -]code)?|passcode)")

#: A name that ends so holds something about the secret, not the secret.
_ABOUT = re.compile(
    r"(?i)(?:names?|file(?:name)?|path|dir|ur[il]|endpoint|ids?|types?|fields?|len(?:gth)?|size|policy|expir\w*|ttl|count|limit|"
    r"regex|pattern|prompt|label|header|env|var|class|hint|error|message|msg|hash|digest|algorithm|strength|manager|store|ref|mgr|realm|"
    r"reset|validator|column|version|format|prefix|arn|budget|usage|izer|(?<=[nkrt])s|required|enabled|at|index|idx|param|placeholder|input|for|"
    r"public_?key|fingerprint|thumbprint|checksum|rounds|vault|rotation|provider|scope|method|kind|mode|state|status|title|text|"
    r"issuer|audience|alias|owner|user|host|port|server|service|region|bucket)$"
)
_ABOUT_WHOLE = re.compile(
    r"(?i)^(?:max|min|num|n|eos|bos|pad|unk|cls|sep|mask|next|page|prev|stop|special|total|prompt|completion|input|output|cached|"
    r"continuation|cursor|cancellation|sync|etag|change)[_-]|public[ _-]?key|cancellationtoken|pagetoken"
)


@lru_cache(maxsize=4096)
def announced(name: str) -> Sensitive | None:
    """What class of value a name announces, whatever that is; None of most names, and of such as `password_length`."""
    if _is_about(name):
        return None
    if _PASSWORD.search(name):
        return Sensitive.PASSWORD
    return Sensitive.SECRET if _SECRET.search(name) else None


def of_service(name: str, value: str) -> bool:
    """Whether a value has the form of a key of the service that is part of the name (after gitleaks)."""
    if not _ANY_SERVICE.search(name) or _is_about(_ANY_SERVICE.sub("", name)):
        return False
    return any(service.search(name) and form.fullmatch(value) for service, form in SERVICES.items())


def _is_about(name: str) -> bool:
    return bool(_ABOUT_WHOLE.search(name) or _ABOUT.search(name))


def is_pin(name: str) -> bool:
    return bool(_PIN.fullmatch(name))


@lru_cache(maxsize=1)
def find_words(text: str) -> tuple[tuple[int, int], ...]:
    """Where each telling word begins and ends, in order and apart. Remembers one text, which several recognisers ask about."""
    return tuple(_find_words(text))


def _find_words(text: str) -> Iterator[tuple[int, int]]:
    end = 0
    for place, _ in _positions().find(text):
        if place >= end and (word := WORD.match(text, place)):
            end = word.end()
            yield place, end


@cache
def _positions() -> Positions:
    words = (*anchors(PASSWORD_WORDS, PASSWORD_WORDS_BEYOND), *anchors(SECRET_WORDS, SECRET_WORDS_BEYOND))
    return Positions((*words, *anchors((SERVICE_WORDS,), ()), *anchors((SHORT_WORDS,), ())))


_LOOK_AROUND = re.compile(r"\(\?<?[!=](?:\[[^\]]*\]|[^()])*\)")
_CAPITALS = str.maketrans("öüşłžõăậẩéèñó", "ÖÜŞŁŽÕĂẬẨÉÈÑÓ")


def anchors(words: tuple[str, ...], beyond: tuple[str, ...]) -> tuple[str, ...]:
    """Hyperscan expressions of words: it knows no look-around, and no letter case beyond ASCII."""
    plain = _LOOK_AROUND.sub("", "|".join(words))
    plain = re.sub(
        r"(?<=\(\?:)[^|()]+(?=\|)",
        lambda letter: "|".join(dict.fromkeys((letter[0], letter[0].translate(_CAPITALS)))),
        plain,
    )
    cased = dict.fromkeys(form for word in beyond for form in (word, word.upper(), word.capitalize()))
    return (f"(?i){plain}", *(("|".join(cased),) if cased else ()))
