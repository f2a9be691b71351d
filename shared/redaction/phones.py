"""Phone numbers, as libphonenumber knows them: international ones anywhere, national ones where the text names them as phone numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

from phonenumbers import Leniency, PhoneNumberMatcher

from shared.redaction.policy import RedactionPolicy
from shared.redaction.recogniser import Range, Recogniser
from shared.redaction.sensitive import Sensitive

_GAPS = "[ \u00a0\u202f\u2010\u2011./()\\[\\]\u2013-]"
_INTERNATIONAL = re.compile(rf"(?<![\w+.])\+[(]?[1-9](?:{_GAPS}{{0,3}}\d){{6,16}}(?![\w])", re.ASCII)
#: With `00` for the plus, and in groups: digits in a row, in a dump of bytes or in fours, as code points are, are anything.
_DOUBLE_ZERO = re.compile(
    rf"(?<![\w+.])(?<![0-9a-f][ ])(?<!\d:[ ])"
    rf"(?!\d{{4}}(?:[ ]\d{{4}})+(?![ \d]))00(?P<number>[1-9]\d{{0,2}}{_GAPS}{{1,3}}\d(?:{_GAPS}{{0,3}}\d){{5,13}})(?![\w])",
    re.ASCII,
)
_WORDS = (
    r"phone|telephone|telefon\w{0,6}|tel|tél|fon|rufnummer|mobile|mobil|mob|cell|handy|fax|whatsapp|signal|sms|text|texted|call|called|calls|ring|dial|reach|"
    r"contact|anruf\w{0,3}|number|nummer|hotline"
)
_NATIONAL = re.compile(
    rf"(?i)(?<![a-z])(?:{_WORDS})(?![a-z])[^\d+\n]{{0,40}}?(?P<number>\(?\d(?:{_GAPS}{{0,3}}\d){{6,14}})(?![\w]|{_GAPS}\d)",
    re.ASCII,
)


#: A word of Chinese announces a number of China, whatever the regions of the policy.
_CHINESE_WORDS = "手机|手機|电话|電話|联系方式"
_CHINESE = re.compile(
    rf"(?:{_CHINESE_WORDS})[^0-9\n]{{0,10}}(?P<number>[01]\d(?:{_GAPS}{{0,2}}\d){{8,10}})(?![\w])", re.ASCII
)
_KIND_AFTER = re.compile(
    rf"(?<![\w.+-])(?P<number>\(?\d(?:{_GAPS}{{0,3}}\d){{6,14}})[ ,]{{0,2}}"
    r"(?:is my |is the |\()?(?:cell|mobile|phone|handy|landline|fax|whatsapp)\b",
    re.ASCII | re.IGNORECASE,
)


#: A text with more numbers than these is a list of them: what stands where a phone number would is taken for one unseen,
#: since libphonenumber takes a third of a millisecond for each.
_LOOKED_UP = 500


def _phones(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    seen = 0
    for match in _INTERNATIONAL.finditer(text):
        if text[match.start() - 1 : match.start()] == "\n" and text.find("\n@@ -", 0, match.start()) >= 0:
            continue  # a line that a diff adds
        seen += 1
        yield from [match.span()] if seen > _LOOKED_UP else _valid(match[0], match.start(), (None,))
    for match in _DOUBLE_ZERO.finditer(text):
        seen += 1
        if seen > _LOOKED_UP or any(True for _ in _valid("+" + match["number"], 0, (None,))):
            yield match.span()
    for match in _CHINESE.finditer(text):
        seen += 1
        yield from (
            [match.span("number")] if seen > _LOOKED_UP else _valid(match["number"], match.start("number"), ("CN",))
        )
    for match in chain(_NATIONAL.finditer(text), _KIND_AFTER.finditer(text)):
        seen += 1
        span = match.span("number")
        yield from [span] if seen > _LOOKED_UP else _valid(match["number"], span[0], policy.phone_regions)


def _valid(text: str, offset: int, regions: tuple[str | None, ...]) -> Iterator[Range]:
    for region in regions:
        for start, end in _numbers(text, region):
            yield offset + start, offset + end


@lru_cache(maxsize=4096)
def _numbers(text: str, region: str | None) -> tuple[Range, ...]:
    return tuple((match.start, match.end) for match in PhoneNumberMatcher(text, region, leniency=Leniency.VALID))


_BYTES = r"[^0-9A-Za-z]{0,9}[0-9]"
PHONES = (
    Recogniser(
        Sensitive.PHONE,
        (
            rf"\+[^0-9A-Za-z]{{0,6}}[1-9](?:{_BYTES}){{6}}",
            rf"00[1-9][0-9]{{0,2}}[^0-9A-Za-z]{{1,9}}[0-9](?:{_BYTES}){{5}}",
            rf"(?i)[0-9](?:{_BYTES}){{6}}[^0-9]{{0,16}}(?:cell|mobile|phone|handy|landline|fax|whatsapp)",
            rf"(?i)(?:phone|tel|tél|fon|mob|cell|handy|fax|whatsapp|signal|sms|text|call|ring|dial|reach|contact|anruf|number|nummer|hotline|{_CHINESE_WORDS})"
            rf"[^0-9]{{0,180}}[0-9](?:{_BYTES}){{6}}",
        ),
        _phones,
    ),
)
