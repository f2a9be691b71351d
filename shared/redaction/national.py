"""Numbers that states give persons. One counts only where its name precedes it: so many digits with a check digit are everywhere.

The check digits are python-stdnum's; the names are those that presidio's recognisers (MIT) take for context, and more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

from shared.redaction.policy import RedactionPolicy
from shared.redaction.recogniser import Range, Recogniser
from shared.redaction.sensitive import Sensitive

#: python-stdnum's module, what the number is called, and its form; `_` is a gap.
_NUMBERS = (
    ("ar.dni", r"\bdni\b|documento nacional", r"\d{2}[.]?\d{3}[.]?\d{3}"),
    ("at.vnr", r"sozialversicherungsnummer|svnr\b|sv-nummer", r"\d{4}_?\d{6}"),
    ("au.tfn", r"tax file number|\btfn\b", r"\d{3}_?\d{3}_?\d{2,3}"),
    (
        "be.nn",
        r"rijksregisternummer|num(?:é|e)ro national|registre national",
        r"\d{2}[.]?\d{2}[.]?\d{2}-?\d{3}[.]?\d{2}",
    ),
    ("br.cpf", r"\bcpf\b", r"\d{3}[.]?\d{3}[.]?\d{3}-?\d{2}"),
    ("ca.sin", r"social insurance|\bsin\b", r"\d{3}_?\d{3}_?\d{3}"),
    ("ch.ssn", r"\bahv\b|\bavs\b|ahv-?nummer|sozialversicherungsnummer", r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}"),
    ("cl.rut", r"\brut\b", r"\d{1,2}[.]?\d{3}[.]?\d{3}-?[\dkK]"),
    ("cn.ric", r"身份证|身分证|公民身份|resident identity|id card", r"\d{17}[\dXx]"),
    ("cz.rc", r"rodn(?:é|e)_(?:č|c)(?:í|i)slo|rodn(?:é|e) (?:č|c)(?:í|i)slo", r"\d{6}/?\d{3,4}"),
    ("de.idnr", r"steuer-?(?:id\b|identifikations|nummer)|\bidnr\b|\btax.?id\b", r"\d{2}_?\d{3}_?\d{3}_?\d{3}"),
    ("dk.cpr", r"\bcpr\b|cpr-?nummer", r"\d{6}-?\d{4}"),
    ("ee.ik", r"isikukood", r"\d{11}"),
    ("es.dni", r"\bdni\b|\bnif\b", r"\d{8}[- ]?[A-Za-z]"),
    ("es.nie", r"\bnie\b", r"[XYZxyz][- ]?\d{7}[- ]?[A-Za-z]"),
    ("fi.hetu", r"henkil(?:ö|o)tunnus|\bhetu\b", r"\d{6}[-+A-Ya-y]\d{3}[\dA-Ya-y]"),
    ("fr.nir", r"\bnir\b|s[^\s]{1,4}curit[^\s]{1,4} sociale", r"[12](?:[ ]?\d){5}[ ]?[0-9ABab](?:[ ]?\d){8}"),
    ("in_.aadhaar", r"aa?dhaa?r|आधार", r"\d{4}_?\d{4}_?\d{4}"),
    ("in_.pan", r"\bpan\b|permanent account", r"[A-Z]{5}\d{4}[A-Z]"),
    ("it.codicefiscale", r"codice fiscale|\bc\.?f\.?\b", r"[A-Za-z]{6}\d\d[A-Za-z]\d\d[A-Za-z]\d{3}[A-Za-z]"),
    ("kr.rrn", r"주민등록번호|resident registration|\brrn\b", r"\d{6}-?\d{7}"),
    ("mx.curp", r"\bcurp\b", r"[A-Z]{4}\d{6}[A-Z]{6}[A-Z0-9]\d"),
    ("nl.bsn", r"\bbsn\b|burgerservicenummer", r"\d{4}[.]?\d{2}[.]?\d{3}"),
    ("no.fodselsnummer", r"f(?:ø|o)dselsnummer|personnummer", r"\d{6}_?\d{5}"),
    ("pl.pesel", r"\bpesel\b", r"\d{11}"),
    ("pt.nif", r"\bnif\b|contribuinte", r"\d{3}_?\d{3}_?\d{3}"),
    ("ro.cnp", r"\bcnp\b|cod numeric personal", r"\d{13}"),
    ("se.personnummer", r"personnummer|personal identity number", r"(?:\d{2})?\d{6}[-+]?\d{4}"),
    ("tr.tckimlik", r"t\.?c\.? kimlik|tckn", r"\d{11}"),
    ("za.idnr", r"south african id|\bsa id\b", r"\d{13}"),
)
_WORD_START = r"(?:^|[^A-Za-z0-9]|\\[nrtbf])"  # in the text of a JSON document the end of an escape may precede a word


def _find(
    pattern: re.Pattern[str], valid: Callable[[str], bool], text: str, policy: RedactionPolicy
) -> Iterator[Range]:
    return (match.span("number") for match in pattern.finditer(text) if valid(match["number"]))


def _recogniser(module: str, name: str, form: str) -> Recogniser:
    number = form.replace("_?", "[ -]?")
    pattern = re.compile(rf"(?i)(?:{name})[^\n]{{0,40}}?(?<![A-Za-z0-9])(?P<number>{number})(?![A-Za-z0-9])")
    plain = re.sub(r"(^|\|)\\b", lambda start: start[1] + _WORD_START, name).replace(r"\b", "[^A-Za-z0-9]")
    anchor = rf"(?i)(?:{plain})[^\n]{{0,180}}[A-Za-z0-9][0-9]"
    return Recogniser(
        Sensitive.NATIONAL_ID, (anchor,), partial(_find, pattern, import_module(f"stdnum.{module}").is_valid)
    )


NATIONAL_NUMBERS = tuple(_recogniser(*number) for number in _NUMBERS)
