"""Secrets that only their name gives away: what is assigned to `password`, `api_key` and the like, in code or in prose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from detect_secrets.filters.heuristic import is_not_alphanumeric_string, is_sequential_string, is_templated_secret
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString, HexHighEntropyString

from services.harvester.redaction.policy import RedactionPolicy
from services.harvester.redaction.recogniser import Range, Recogniser
from services.harvester.redaction.sensitive import PLACEHOLDER, Sensitive

#: Names of what a person types, which may be weak.
_PASSWORDS = (
    r"pass[_-]?(?:word|wd|phrase|code|wort)|passwd|pwd|kennwort|contrase(?:ñ|n)a|mot[ _]de[ _]passe|mnemonic|"
    r"(?:wpa[23]?|wi-?fi|wlan)[ _-]?key"
)
#: Names of what a machine makes, which is long and random.
_SECRETS = (
    r"secret|token|credential|(?:api|auth|access|account|app|client|crypt|cipher|db|encryption|hmac|license|master|"
    r"private|priv|service|session|shared|signing|webhook|secret)[ _-]?key|apikey|salt|authtoken|nonce_key|jwt_key"
)
#: Short ones are words in their own right only, or ends of a longer name.
_SHORT = r"(?<![A-Za-z])(?:pass|pw|psk|pin)(?![A-Za-z])|(?<=[_-])pass(?![A-Za-z])"
_NAME = rf"(?:{_PASSWORDS}|{_SECRETS}|{_SHORT})"
_NEXT_FIELD = re.compile(r"&(?:amp;)?[A-Za-z_][\w.-]*=")  # of a query or a form
_ONLY_SHORT = re.compile(r"(?i)-{0,2}(?:pass|pw|psk|pin)")
_PASSWORD_NAME = re.compile(rf"(?i){_PASSWORDS}|{_SHORT}")
_KEYWORD = re.compile(rf"(?i){_NAME}")
_SEPARATOR = (
    r"(?:\\?[\"'`\])*]|\[\d*\]){0,4}"  # the end of a quoted name
    r"(?:[ \t](?:\([^)\n]{1,30}\)|(?:for|of|to|on|für)[ \t][A-Za-z_ .'-]{1,40}?))?"  # whose it is
    r"(?:[ \t]{0,12}(?::=|=>|={1,3}|!==?|:\*{0,2}|,(?=[ ]?[\"'])|\((?=[ ]?[\"']))[ \t]{0,12}(?:(?:[|>][+-]?)?\n[ \t]{0,8})?"
    r"|>(?=[^<\n]{4,200}</)"  # XML
    r"|[ \t]{1,3}(?:is|are|was|to|ist|lautet|es|est)[ \t]{1,2}(?:now |still |jetzt )?"
    r"|[ \t]{1,3}(?=[\"'`]))"
)
_OPEN = r"(?:\*{1,2})?(?:[frbu@])?(?P<quote>\\?[\"'`])"
_VALUE = (
    rf"(?:{_OPEN}(?P<quoted>(?:(?!(?P=quote))[^\n]){{1,300}})(?P=quote)|\*{{0,2}}(?P<bare>[^\s\"'`,;<>|]{{4,300}}))"
)
_ASSIGNMENT = re.compile(
    rf"(?P<name>(?<![A-Za-z0-9])[A-Za-z0-9_.\-]{{0,60}}?{_NAME}[A-Za-z0-9_\-]{{0,30}})(?P<sign>{_SEPARATOR}){_VALUE}",
    re.IGNORECASE,
)
#: Every keyword of a name holds one of these, at most _REACH behind where the name begins.
_STEM = re.compile("pass|pw|kennwort|contrase|mot[ _]de|mnemonic|psk|pin|secret|token|credential|key|salt")
_REACH = 60 + len("encryption key")
_ALIKE = str.maketrans("ſı", "si")  # what re.IGNORECASE takes for the same, and str.lower does not
_NAME_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9_.\-]", re.IGNORECASE)
_FLAG = re.compile(
    r"(?<![\w-])--?(?P<name>[a-z0-9\-]{0,30}?(?:password|passwd|passphrase|pass|token|secret|api-?key)(?:-?key)?)(?P<sign>[= ])"
    rf"{_VALUE}",
    re.IGNORECASE,
)
#: A name that ends so holds something about the secret, not the secret.
_ABOUT = re.compile(
    r"(?i)(?:names?|file(?:name)?|path|dir|ur[il]|endpoint|ids?|types?|fields?|len(?:gth)?|size|policy|expir\w*|ttl|count|limit|"
    r"regex|pattern|prompt|label|header|env|var|class|hint|error|message|msg|hash|digest|algorithm|strength|manager|store|ref|mgr|realm|"
    r"reset|validator|column|version|format|prefix|arn|budget|usage|izer|(?<=[nkrtd])s|required|enabled|at|index|idx|param|placeholder|input|for)$"
)
_ABOUT_WHOLE = re.compile(
    r"(?i)^(?:max|min|num|n|eos|bos|pad|unk|cls|sep|mask|next|page|prev|stop|special|total|prompt|completion)[_-]"
)
_STAND_IN = re.compile(
    r"(?i)<[^>]*>|\$\{|\{\{|\$\(|\$[A-Za-z_]|%\(|^%[A-Z_]+%$|\*{3}|x{4}|\.{3}|…|_{4}|^#|^\{|^\[|your|change[ _-]?(?:me|this|it)|"
    r"example|placeholder|redacted|dummy|todo|replace|insert|fill|secrets\.|vault|environ|get_?env|process\.env|os\.|"
    r"^(?:none|null|nil|true|false|undefined|required|optional|string|str|int|text|bytes|hidden|masked|missing|invalid|empty|"
    r"unset|n/?a|yes|no|env|input|default|password|passwd|pass|secret|token|bearer|basic|username|api[_-]?key|foo|bar|baz|test|"
    r"abc|abc123|value|number|varchar.*|char.*|any|object|boolean|self|this|wrong|correct|expired|in|not|the|stored|rotated|sent|"
    r"now|only|also|never|always|used|set)$"
)
_CODE = re.compile(
    r"[()\[\]{}]|^[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+[.;]?$|^[./~]*/[^+=]*$|^https?://|^&|^@\w+/|^--"
)
_IDENTIFIER = re.compile(
    r"^_?[a-z]+(?:_[a-z0-9]+)*$|^[a-z]+(?:[A-Z][a-z]+)+\d?$|^[A-Z][A-Z_]+$|^[A-Z][a-z]+(?:[A-Z][a-z]+)+$"
)
_HEX, _BASE64 = HexHighEntropyString(), Base64HighEntropyString()


def judged(name: str, value: str, quoted: bool) -> Sensitive | None:
    """Whether what is assigned to `name` is a secret, and of which class.

    A pure rule of the two texts: `quoted` values may be words, bare ones may as well be code.
    """
    if not _KEYWORD.search(name) or _ABOUT.search(name) or _ABOUT_WHOLE.search(name) or _stands_in(value):
        return None
    if _PASSWORD_NAME.search(name):
        return Sensitive.PASSWORD if _could_be_typed(name, value, quoted) else None
    return Sensitive.SECRET if _is_random(value) else None


def _stands_in(value: str) -> bool:
    """Whether the value names or hides a secret rather than being one."""
    return bool(_STAND_IN.search(value) or PLACEHOLDER.search(value)) or len(value) < 4 or is_templated_secret(value)


def _could_be_typed(name: str, value: str, quoted: bool) -> bool:
    if re.search(r"\s", value):
        return bool(re.search(r"(?i)phrase|mnemonic", name)) and len(value.split()) >= 3
    if is_not_alphanumeric_string(value):
        return len(value) >= 6 or (quoted and value.isdigit())
    if quoted:
        return not _KEYWORD.search(value) or bool(re.search(r"\d|[^\w\-. ]", value))
    if _CODE.search(value) or _KEYWORD.search(value):
        return False
    if name.isupper():  # as an environment file writes it
        return len(value) >= 6
    return len(value) >= 6 and not _IDENTIFIER.match(value) and _kinds(value) >= 2


def _kinds(value: str) -> int:
    """How many kinds of characters: letters, digits, signs inside the value."""
    return sum(bool(re.search(kind, value)) for kind in (r"[A-Za-z]", r"\d", r"[^A-Za-z0-9](?=.)"))


def _is_random(value: str) -> bool:
    """Long enough, of letters and digits, and with the entropy of something drawn at random (after detect-secrets)."""
    if len(value) < 12 or re.search(r"\s", value) or _CODE.search(value) or is_sequential_string(value):
        return False
    if not re.search(r"\d", value) and (len(value) < 24 or value.lower() == value or _IDENTIFIER.match(value)):
        return False
    if not re.search(r"[A-Za-z]", value):
        return False
    if re.fullmatch(r"[0-9a-fA-F-]+", value):
        return _HEX.calculate_shannon_entropy(value) > 2.5
    return _BASE64.calculate_shannon_entropy(value) > min(_BASE64.entropy_limit, 3.0)


def _assigned(wanted: Sensitive, text: str) -> Iterator[Range]:
    for found, start, end in _all_assigned(text):
        if found is wanted:
            yield start, end


@lru_cache(maxsize=1)
def _all_assigned(text: str) -> tuple[tuple[Sensitive, int, int], ...]:
    """Remembers one text, since all recognisers of this module are asked about the same one in turn."""
    found = []
    for match in (*_assignments(text), *_each(_FLAG, text)):
        if not _announces(match):
            continue
        group = "quoted" if match["quoted"] is not None else "bare"
        start, end = match.span(group)
        if group == "bare":
            whole = _NEXT_FIELD.split(match[group], maxsplit=1)[0]
            end = start + len(whole.rstrip(".,;:!?)&*"))
        if (sensitive := judged(match["name"], text[start:end], group == "quoted")) is not None:
            found.append((sensitive, start, end))
    return tuple(found)


def _each(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Matches from the left; the next search begins behind the name, since a value may hold another name."""
    at = 0
    while (match := pattern.search(text, at)) is not None:
        at = match.end("name")
        yield match


def _assignments(text: str) -> Iterator[re.Match[str]]:
    """What `_each` finds of _ASSIGNMENT, which takes long to try, tried only where a name with a keyword may begin."""
    at = 0
    for start in _name_starts(text):
        if start >= at and (match := _ASSIGNMENT.match(text, start)):
            at = match.end("name")
            yield match


def _name_starts(text: str) -> Iterator[int]:
    lowered = text.lower().translate(_ALIKE)
    if len(lowered) != len(text):  # few capitals become two letters: places in one text are not those in the other
        yield from (start.start() for start in _NAME_START.finditer(text))
        return
    begin = 0
    for stem in _STEM.finditer(lowered):
        begin, end = max(begin, stem.start() - _REACH), stem.start() + 1
        yield from (start.start() for start in _NAME_START.finditer(text, begin, end))
        begin = end


def _announces(match: re.Match[str]) -> bool:
    """Whether the sign between name and value assigns: `pass` is a word of many uses, and in a list a name has no value."""
    sign, value = match["sign"].strip(), match["quoted"] or match["bare"]
    if _ONLY_SHORT.fullmatch(match["name"]) and not re.search(r"[:=>]", sign):
        return match.re is _FLAG or bool(re.search(r"\d", value) and sign.isalpha())
    if not sign.strip("\\\"'`])*"):  # nothing but the end of one quotation and the begin of another
        return not _IDENTIFIER.match(value)
    return not (sign.endswith(",") and _CODE.search(value))


def _passwords(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    return _assigned(Sensitive.PASSWORD, text)


def _secrets(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    return _assigned(Sensitive.SECRET, text)


_PASSWORD_ANCHOR = (
    r"(?i)pass[_-]?(?:word|wd|phrase|code|wort)|passwd|pwd|kennwort|contrase|mot[ _]de[ _]passe|mnemonic|"
    r"(?:wpa[23]?|wi-?fi|wlan)[ _-]?key|(?:pass|pw|psk|pin)[^A-Za-z]"
)
_SECRET_ANCHOR = (
    r"(?i)secret|token|credential|(?:api|auth|access|account|app|client|crypt|cipher|db|encryption|hmac|license|master|private|priv|service|"
    r"session|shared|signing|webhook)[ _-]?key|salt|nonce_key|jwt_key"
)

ASSIGNMENTS = (
    Recogniser(Sensitive.PASSWORD, (_PASSWORD_ANCHOR,), _passwords),
    Recogniser(Sensitive.SECRET, (_SECRET_ANCHOR,), _secrets),
)
