"""Personal data with a form or a check digit: e-mail, cards, accounts, wallets, IP addresses.

Street addresses and names of persons are left out: without a language model they cannot be recognised precisely.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import ip_address

from stdnum import bitcoin, iban, luhn
from stdnum.us import ssn

from shared.redaction.policy import RedactionPolicy
from shared.redaction.recogniser import Range, Recogniser
from shared.redaction.sensitive import Sensitive

_EMAIL = re.compile(
    r"(?<![\w.+%@-])(?P<local>[\w.+%-]{1,64})(?:@|%40)"
    r"(?P<domain>(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+(?:[^\W\d_]{2,24}|xn--[a-z0-9-]+))(?:(?=[_-]\d)|(?![\w@-]))"
)
_NUMBERED_FILE = re.compile(r"(?<=[^\W\d_]{2})[-_]\d+\.[a-z0-9]{2,5}$")  # `ida@gmx.de-1.png`
_USER_INFORMATION = re.compile(r"://[^\s/@]{0,100}(?:@[^\s/@]{1,100})?:[^\s/@?&=,;]{0,100}$")
_PASSWORD_AND_HOST = re.compile(r":[^\s/@]{1,200}@")
#: `name@2x.png` and `getty@tty1.service` only look like addresses.
_FILE_ENDINGS = frozenset((
    "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "js", "mjs", "cjs", "ts", "tsx", "jsx", "css", "scss", "html",
    "json", "yaml", "yml", "toml", "lock", "pyc", "rst", "txt", "service", "socket", "timer",
    "target", "mount", "slice", "path", "device", "scope", "whl", "gz", "tgz", "rpm", "deb", "jar", "class",
    "conf", "cfg", "ini", "log", "sql", "local", "lan", "internal", "utf",
))  # fmt: skip
#: Endings of files, and top-level domains: an address unless a version stands before them.
_AMBIGUOUS = frozenset(("py", "md", "sh", "zip", "rs", "pl", "ps", "so", "mo", "cc", "app", "dev", "mov"))
_SOURCES = frozenset(("py", "md", "sh", "rs", "pl", "cc"))  # files where a path leads to them
_VERSION_OF_FILE = re.compile(r"v\d+(?:\.|$)|\d+\.\d")
_NOBODY = frozenset({"git", "noreply", "no-reply", "donotreply", "do-not-reply", "mailer-daemon"})


def _emails(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for match in _EMAIL.finditer(text):
        address = _NUMBERED_FILE.sub("", match["domain"])
        local, (domain, ending) = match["local"].strip(".").lower(), address.lower().rsplit(".", 1)
        if local in _NOBODY or ending in _FILE_ENDINGS or _allowed_domain(f"{domain}.{ending}", policy):
            continue
        before = text[max(0, match.start() - 3) : match.start()]
        if ending in (_SOURCES if before.endswith("/") else ()) or _VERSION_OF_FILE.match(domain):
            continue
        if ending in _AMBIGUOUS and re.match(r"v?\d+(?:\.|x|$)", domain):
            continue
        if before == "://" and not ("%40" in match[0] or _PASSWORD_AND_HOST.match(text, match.end())):
            continue  # a user and a host
        if not _USER_INFORMATION.search(text, max(0, match.start() - 120), match.start()):
            yield match.start(), match.start("domain") + len(address)


def _allowed_domain(domain: str, policy: RedactionPolicy) -> bool:
    return any(domain == allowed or domain.endswith("." + allowed) for allowed in policy.allow_domains)


_GAP = "[ \u00a0\u202f-]"
_CARD = re.compile(
    rf"(?<![\w.+])(?:\d{{13,19}}|\d{{4}}({_GAP})\d{{4}}\1\d{{4}}\1\d{{1,7}}|\d{{4}}({_GAP})\d{{6}}\2\d{{4,5}})(?![\w]|\.\d|{_GAP}\d)",
    re.ASCII,
)
#: Issuers: Visa, Mastercard, American Express, Discover, Diners, JCB, UnionPay, Maestro, with the lengths they use (ISO/IEC 7812).
_ISSUERS = re.compile(
    r"4\d{12}(?:\d{3})?(?:\d{3})?|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}|"
    r"6(?:011|5\d\d|4[4-9]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}|(?:5018|5020|5038|6304|6759|676[1-3])\d{8,15}"
)


#: Numbers of such things are as long, and one in ten has the check digit.
_NO_CARD = re.compile(
    r"(?i)(?:order|invoice|tracking|parcel|ticket|request|reference|ref|transaction|trace|span|message|user|chat|isbn|ean|gtin|serial|part|time|ts|"
    r"timestamp|build|job|run|id|bestellung|rechnung|sendung)(?:[ _-]?(?:no|nr|num|number|nummer|id))?[\"']?[.:=#]{0,2}[ \t]{0,2}[#\"']?$"
)


def _cards(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if _ISSUERS.fullmatch(digits) and luhn.is_valid(digits) and len(set(digits)) > 1:
            before = text[max(0, match.start() - 40) : match.start()]
            if digits != match[0] or not _NO_CARD.search(before):
                yield match.span()


_COUNTRIES = (
    "AD|AE|AL|AT|AZ|BA|BE|BG|BH|BR|BY|CH|CR|CY|CZ|DE|DK|DO|EE|EG|ES|FI|FO|FR|GB|GE|GI|GL|GR|GT|HR|HU|IE|IL|IQ|IS|IT|JO|KW|KZ|"
    "LB|LC|LI|LT|LU|LV|LY|MC|MD|ME|MK|MR|MT|MU|NL|NO|PK|PL|PS|PT|QA|RO|RS|SA|SC|SE|SI|SK|SM|ST|SV|TL|TN|TR|UA|VA|VG|XK"
)
_IBAN = re.compile(rf"(?<![A-Za-z0-9])(?:{_COUNTRIES})\d\d(?:{_GAP}?[A-Za-z0-9]{{1,4}}){{3,8}}", re.ASCII)
_ANY_CASE_IBAN = re.compile(_IBAN.pattern, re.ASCII | re.IGNORECASE)


def _ibans(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    pattern = _ANY_CASE_IBAN if re.search("(?i)iban", text, re.ASCII) else _IBAN
    for match in pattern.finditer(text):
        end = _longest(match[0], iban.is_valid)
        if end and not text[match.start() + end : match.start() + end + 1].isalnum():
            yield match.start(), match.start() + end


def _longest(text: str, valid: Callable[[str], bool]) -> int:
    """The length of the longest valid beginning of a text: words may follow an account number.

    The check digits (ISO 7064, the remainder by 97 is one) are computed once along the text, since hardly any number has them.
    """
    digits, number, ends = text[:4].upper(), 0, []
    for end, sign in enumerate(text[4:], 5):
        if sign.isalnum():
            number = int(f"{number % 97}{int(sign, 36)}")
            if end >= 15 and int("".join([str(number), *(str(int(check, 36)) for check in digits)])) % 97 == 1:
                ends.append(end)
    return next((end for end in reversed(ends) if valid(re.sub(_GAP, "", text[:end]))), 0)


_SSN = re.compile(r"(?<![\w.+-])\d{3}-\d{2}-\d{4}(?![\w-]|\.\d)", re.ASCII)
_BARE_SSN = re.compile(
    r"(?i)\b(?:ssn|social security)\b[^\d\n]{0,30}(?P<number>\d{3}[ ]?\d{2}[ ]?\d{4})(?![\w-])", re.ASCII
)


def _ssns(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    yield from (match.span() for match in _SSN.finditer(text) if ssn.is_valid(match[0]))
    yield from (m.span("number") for m in _BARE_SSN.finditer(text) if ssn.is_valid(re.sub(r"\D", "", m["number"])))


_BITCOIN = re.compile(
    r"(?<![A-Za-z0-9])(?:bc1[02-9ac-hj-np-z]{11,71}|[13][1-9A-HJ-NP-Za-km-z]{25,34})(?![A-Za-z0-9])", re.ASCII
)
_ETHEREUM = re.compile(r"(?<![A-Za-z0-9])0x[0-9a-fA-F]{40}(?![A-Za-z0-9])", re.ASCII)


def _wallets(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    yield from (match.span() for match in _BITCOIN.finditer(text) if bitcoin.is_valid(match[0]))
    yield from (match.span() for match in _ETHEREUM.finditer(text) if len(set(match[0][2:].lower())) > 4)


_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d|\.\w)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{2,34}(?![\w:])", re.ASCII)
_VERSION_WORD = re.compile(
    r"\b(?=[vrbfducipostma])(?:v|ver|pkgver|versions?|(?:file|assembly|product)version|releas(?:e|ed|ing)|build|firmware|fw|driver|"
    r"(?:up|down)grad(?:e|ed|es|ing)|updat(?:e|ed|es|ing)|bump(?:ed|s|ing)?|install(?:ed|ing|s)?|pip|package|changelog|section|chapter|"
    r"rev|revision|oid|tag|clause|sdk)\b"
)
#: `opencv==…`, `>=…`, `^…`, `Chrome/…`; a single `=` and an arrow assign addresses, too.
_VERSION_SIGN = re.compile(r"(?:[=<>~!]=\s?|(?<![-=])>\s?|[<~^]\s?|[A-Za-z]/(?<!host/)(?<!\bip/)|§ ?)$")
_TAG = re.compile(r"<[^<>]{1,50}>$")
_LISTED = re.compile(r"^\s*- [\w.-]+=$")  # a package in a list of Conda
_IS_ADDRESS = re.compile(
    r"(?i)\b(?:ips?|ipv4|ip_?addr(?:ess)?|address|hosts?|hostname|rhost|server|ping|ssh|client|remote|addr|nameserver|dns|inet|login|peer|"
    r"firewall|gateway|proxy|endpoint|src|dst|record)\b|://$"
)
_WORDS_OF_NAME = re.compile(r"(?<=[a-z])(?=[A-Z])|_|(?<=[A-Za-z])(?=\d)")


def _ip_addresses(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for match in _IPV4.finditer(text):
        before = text[max(0, match.start() - 60) : match.start()].rpartition("\n")[2]
        if _is_global(match[0]) and not _is_version(before):
            yield match.span()
    for match in _IPV6.finditer(text):
        candidate = match[0].rstrip(":") if match[0].endswith(":") and not match[0].endswith("::") else match[0]
        if _is_global(candidate):
            yield match.start(), match.start() + len(candidate)


def _is_version(before: str) -> bool:
    """Whether four numbers with dots are a version, from what precedes them on the line: a sign, or else the nearest word."""
    if _LISTED.search(before) or (_VERSION_SIGN.search(before, max(0, len(before) - 6)) and not _TAG.search(before)):
        return True
    words = _WORDS_OF_NAME.sub(" ", before)
    version = max((word.start() for word in _VERSION_WORD.finditer(words.lower())), default=-1)
    return version >= 0 and not any(word.end() > version + 1 for word in _IS_ADDRESS.finditer(words, version))


@lru_cache(maxsize=4096)
def _is_global(text: str) -> bool:
    try:
        return ip_address(text).is_global
    except ValueError:
        return False


_DIGITS = r"[0-9](?:[^0-9A-Za-z]{0,4}[0-9])"
PERSONAL_DATA = (
    Recogniser(Sensitive.EMAIL, (r"[\w.+%\x80-\xff-](?:@|%40)[A-Za-z0-9\x80-\xff]",), _emails),
    Recogniser(Sensitive.CARD, (_DIGITS + "{12}",), _cards),
    Recogniser(Sensitive.IBAN, (rf"(?:{_COUNTRIES})[0-9]{{2}}(?:[^0-9A-Za-z]{{0,4}}[A-Za-z0-9]){{11}}", "(?i)iban"), _ibans),
    Recogniser(Sensitive.SSN, (r"[0-9]{3}-[0-9]{2}-[0-9]{4}", r"(?i)ssn|social security"), _ssns),
    Recogniser(Sensitive.WALLET, (
        r"(?:^|[^A-Za-z0-9]|\\[nrtbf])(?:bc1[02-9ac-hj-np-z]{11}|[13][1-9A-HJ-NP-Za-km-z]{25})", "0x[0-9a-fA-F]{40}",
    ), _wallets),
    Recogniser(Sensitive.IP_ADDRESS, (
        r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}", "[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{2}",
    ), _ip_addresses),
)  # fmt: skip
