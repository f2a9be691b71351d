"""Judge a value by what it looks like and by the name and the sign before it: a pure rule of texts."""

from __future__ import annotations

import re
from functools import lru_cache

from detect_secrets.filters.heuristic import is_sequential_string
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString, HexHighEntropyString

from shared.redaction import names
from shared.redaction.sensitive import Sensitive
from shared.redaction.stand_ins import stands_in

_WORDLIKE = re.compile(r"[A-Za-z]+(?:[-'’._/:][A-Za-z]+)*[.,!?;:)*]*")
_CALL = re.compile(
    r"!?[A-Za-z_][\w.]*[(\[{](?:.*[)\]}])?[.;,)\]}:]*(?:\.[A-Za-z_].*)?|[A-Za-z_][A-Za-z_.]{2,}[(\[{][\w.:*&]*"
)
_PATH = re.compile(
    r"[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+[.;]?|[./~]*/[^+=]*|https?://.*|&.*|@\w+/.*|--?[a-z].*|[({\[].*"
)
_IDENTIFIER = re.compile(
    r"_?[a-z]+(?:_[a-z0-9]+)*|[a-z]+(?:[A-Z][a-z]+)+\d?|[A-Z][A-Z_]+|_?[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[A-Z][a-z]+(?:[A-Z][a-z]+)+"
)
_SIGNS = re.compile(r"[!@#$%^&*+=~?|{}\[\]<>()]")
#: Signs that code and prose hardly have within a word.
RARE = re.compile(r"[!@#$%^&*=+~?|`]")
_MIXED = r"[a-z][A-Z]{2}|[A-Z]{3}[a-z]"  # no word has such letter case
_KINDS = (r"[^\W\d_]", r"\d", r"[^A-Za-z0-9](?=.)", _MIXED)
_BRACKETS = re.compile(r"[(){}\[\]<>]")
_TYPED = re.compile(r"[!-~]|[^\W\d_](?<![\u0e00-\u0fff\u3000-\ud7ff])")  # what a keyboard with letters types
_HEX, _BASE64 = HexHighEntropyString(), Base64HighEntropyString()


@lru_cache(maxsize=4096)
def judged(name: str, value: str, quoted: bool, by_sign: str = "=") -> Sensitive | None:
    """Whether what is assigned to `name` is a secret, and of which class.

    `quoted` values may be words, bare ones may as well be code. `by_sign`: `=` where one assigns, `:` where a value stands
    beside its name, `,` in a list, `is` in prose, a space where nothing but white space is between them.
    """
    pin = names.is_pin(name) and not names.ONLY_SHORT.fullmatch(name)
    if by_sign == " " and not (quoted or pin or _is_unmistakable(value)):
        return None
    if names.of_service(name, value) and _is_random(value):
        return Sensitive.SECRET
    sensitive = names.announced(name)
    if sensitive is None or (stands_in(value) and not _is_salt(value)):
        return None
    if sensitive is Sensitive.SECRET:
        return sensitive if _is_random(value, quoted) else None
    return sensitive if _could_be_typed(name, value, quoted, by_sign) else None


def _could_be_typed(name: str, value: str, quoted: bool, sign: str) -> bool:
    if re.search(r"\s", value):
        return (bool(re.search(r"(?i)phrase|mnemonic", name)) and len(value.split()) >= 3) or _is_salt(value)
    if names.is_pin(name):
        return 4 <= len(value) <= 8 and value.isdigit()
    strong = len(value) >= 6 and any(re.search(kind, value) for kind in (r"\d", _SIGNS, _MIXED))
    if quoted and sign in "=:":
        a_word = len(value) >= 5 and not names.WORD.search(value) and not names.ONLY_SHORT.fullmatch(name)
        return strong or a_word or value.isdigit()
    if quoted:
        return strong and not (_is_word(value) or _is_name(value) or _IDENTIFIER.fullmatch(value))
    if len(_TYPED.findall(value)) < 6 or _CALL.fullmatch(value) or _PATH.fullmatch(value):
        return False
    if sign == "=" and name.isupper() and name.isascii():  # as an environment has it
        return True
    return (
        strong
        and _kinds(value) >= 2
        and not (_is_word(value) or _IDENTIFIER.fullmatch(value) or names.WORD.search(value))
    )


def _is_unmistakable(value: str) -> bool:
    """Whether a value is no word, name or number of any kind, so that standing behind a telling word is enough."""
    if len(value) < 8 or not re.search(r"[A-Za-z]", value) or _CALL.fullmatch(value) or _PATH.fullmatch(value):
        return False
    return bool(re.search(r"\d[^\W\d]+\d", value) and re.search(r"\d[^\d:.-]*[^\W\d]", value)) or (
        bool(re.search(r"\d", value)) and bool(RARE.search(value[:-1])) and value[0].isalnum()
    )


def _is_word(value: str) -> bool:
    return bool(_WORDLIKE.fullmatch(value)) and not re.search(_MIXED, value)


def _kinds(value: str) -> int:
    """How many kinds of characters: letters, digits, signs inside the value, letter case that is no word's."""
    return sum(bool(re.search(kind, value)) for kind in _KINDS)


def _is_random(value: str, quoted: bool = False) -> bool:
    """Long enough, of letters and digits, and with the entropy of something drawn at random (after detect-secrets)."""
    if len(value) < 12 or is_sequential_string(value):
        return False
    if _is_salt(value):
        return True
    if re.search(r"\s", value) or (not quoted and (_CALL.fullmatch(value) or _PATH.fullmatch(value))):
        return False
    if not re.search(r"\d", value) and (len(value) < 24 or value.lower() == value or _IDENTIFIER.fullmatch(value)):
        return False
    if not re.search(r"[A-Za-z]", value) or (_BRACKETS.search(value) and (not quoted or len(value) < 24)):
        return False
    if _is_name(value):
        return False
    if re.fullmatch(r"[0-9a-fA-F-]+", value):
        return _HEX.calculate_shannon_entropy(value) > 2.5
    return _BASE64.calculate_shannon_entropy(value) > min(_BASE64.entropy_limit, 3.0)


def _is_name(value: str) -> bool:
    """Whether a value is put together of words, as `Ed448PrivateKey` is: hardly any drawn one has so many small letters in a row."""
    words = sum(map(len, re.findall(r"[a-z]{3,}", value)))
    return value.isidentifier() and not value.islower() and words >= 0.55 * len(value)


def _is_salt(value: str) -> bool:
    """Whether a value is drawn from all signs of the keyboard, as frameworks draw their keys: code has few of these signs."""
    signs, digits = len(set(RARE.findall(value))), len(re.findall(r"\d", value))
    if len(value) < 32 or re.search(r"://|\(\?[:!=<P]", value) or not digits:
        return False
    crowded = re.search(rf"{_MIXED}|\d[a-z]+\d|{RARE.pattern}.?{RARE.pattern}", value)
    return signs > 3 or (signs == 3 and bool(crowded)) or (signs == 2 and digits > 4 and bool(crowded))
