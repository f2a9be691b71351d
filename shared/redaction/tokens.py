"""Credentials with a form of their own: patterns of detect-secrets and gitleaks, and newer or wider forms beside them.

Anchors are Hyperscan expressions over UTF-8 bytes. Each matches wherever its detector can find something, also in the
escaped text of a JSON document, hence no word boundaries: the byte before a token may be the n of `\\n`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.stripe import StripeDetector

from shared.redaction.policy import RedactionPolicy
from shared.redaction.positions import Positions
from shared.redaction.recogniser import Range, Recogniser
from shared.redaction.sensitive import Sensitive
from shared.redaction.stand_ins import DEFAULTS, DOCUMENTED

RULES = Path(__file__).with_name("rules")
_DRAWN = re.compile(r"\d|[a-z][A-Z]|[A-Z]{2}[a-z]")
_SAMPLE, _VARIED = 20, 6  # `ghp_xxxx…` is a sample of a token: one has more different characters at its end
_TAIL = re.compile(r"[A-Za-z0-9_\-]*")


def _formed(
    sensitive: Sensitive, anchor: str, *patterns: str, plugin: type[RegexBasedDetector] | None = None
) -> Recogniser:
    """A recogniser of tokens that their form gives away; the plugin's patterns count first."""
    known = list(plugin().denylist) if plugin else []
    own = [re.compile(pattern, re.ASCII) for pattern in patterns]
    return Recogniser(sensitive, (anchor,), partial(_find, (*known, *own)))


def _find(patterns: tuple[re.Pattern[str], ...], text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for pattern in patterns:
        for match in pattern.finditer(text):
            if not _within_a_word(text, match.start()) and is_drawn(match[0]):
                # Some patterns of the library end before the token does; a rest of it must not stay behind.
                yield match.start(), _TAIL.match(text, match.end()).end()  # type: ignore[union-attr]


def is_drawn(token: str) -> bool:
    """Whether a token was drawn at random, rather than written down as a sample of one."""
    end = token[-_SAMPLE:]
    return len(set(end)) >= _VARIED and not DOCUMENTED.search(token)


def _within_a_word(text: str, start: int) -> bool:
    before = text[start - 1 : start]
    if text[max(0, start - 2) : start] in ("\\n", "\\r", "\\t"):  # an escape
        return False
    return before.isascii() and before.isalnum() and text[start].isalnum()


def _forms() -> Iterator[str]:
    """The form of each token that a file of rules lists."""
    for path in sorted(RULES.glob("*.toml")):
        for group, forms in tomllib.loads(path.read_text()).items():
            if group != "named":
                yield from forms.values()


def _service_tokens(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    """What has one of the forms and is no word: of a name, which few of them exclude, the end has no digit and one case."""
    for place, number in _service_positions().find(text):
        match = _FORMS[number].match(text, place)
        if match and not _within_a_word(text, place) and is_drawn(match[0]) and _DRAWN.search(match[0][-_SAMPLE:]):
            start = match.start(match.re.groupindex.get("token", 0))  # the group leaves out what a form wants before it
            yield start, _TAIL.match(text, match.end()).end()  # type: ignore[union-attr]


@cache
def _service_positions() -> Positions:
    return Positions(_ANCHORS)


_SET, _GROUP = re.compile(r"\\.|\[[^\]]*\]"), re.compile(r"\([^()]*\)")
_LONG = re.compile(r"\{(?:1[3-9]|[2-9]\d|\d{3,})(?:,\d*)?\}")


def anchor_of(form: str) -> str:
    """A Hyperscan expression that matches wherever the form does, cut after its first long run to be cheap to compile."""
    long = _LONG.search(form)
    head = _SET.sub("", form[: long.start()]) if long else ""
    bare = _GROUP.sub("", _GROUP.sub("", _SET.sub("", form)))  # groups are nested twice at most
    if long is None or head.count("(") != head.count(")") or "|" in bare or len(head) < 3:
        return form
    return form[: long.start()] + "{12}"


_FORMS = tuple(re.compile(rf"(?:{form})(?![A-Za-z0-9])", re.ASCII) for form in _forms())
_ANCHORS = tuple(anchor_of(form) for form in _forms())


_JWT = re.compile(r"eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{4,}(?:\.[A-Za-z0-9_\-]+)?", re.ASCII)


def _jwts(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for match in _JWT.finditer(text):
        head_and_claims = ".".join(match[0].split(".")[:2])
        if JwtTokenDetector.is_formally_valid(head_and_claims):
            yield match.span()


_AWS_ID = r"(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[0-9A-Z]{16}"
_AWS_CONTEXT = re.compile(
    rf"(?i:aws.{{0,40}}?(?:secret|key|token|pass|pw)|secret.{{0,3}}access.{{0,3}}key)|{_AWS_ID}", re.ASCII
)
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+_\-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_\-])", re.ASCII)
_NEAR = 200  # characters between what announces an AWS secret and the secret


def _aws_secrets(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    # Forty characters alone may be a git object's name: what precedes them decides, and they must be mixed.
    for match in _AWS_SECRET.finditer(text):
        mixed = re.search("[a-z]", match[0]) and re.search("[A-Z]", match[0]) and re.search("[0-9]", match[0])
        if (
            mixed
            and not DOCUMENTED.search(match[0])
            and _AWS_CONTEXT.search(text, max(0, match.start() - _NEAR), match.start())
        ):
            yield match.span()


_PEM = re.compile(
    r"-----BEGIN (?P<kind>[A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?)-----"
    r"(?:(?:(?!-----).){40,16384}?-----END (?P=kind)-----|[A-Za-z0-9+/=\s\\:,.()_\-]{40,})",
    re.ASCII | re.DOTALL,
)
_PUTTY = re.compile(r"PuTTY-User-Key-File-\d:.{40,8192}?Private-MAC: ?[0-9a-f]{20,}", re.ASCII | re.DOTALL)


def _private_keys(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for pattern in (_PEM, _PUTTY):
        for match in pattern.finditer(text):
            if re.search(r"[A-Za-z0-9+/]{24}", match[0]):  # a mere mention of the markers holds no key
                yield match.span()


#: A password in base64 may hold a slash, and one that nobody encoded an `@`: the last one before the host ends it.
_URL = re.compile(
    r"(?<=[A-Za-z0-9+.\-])://(?P<user>[^\s:@/?#'\"<>\[\]]{0,100}(?:@[^\s:@/?#'\"<>\[\]]{1,100})?):(?P<password>(?:(?!://)[^\s'\"<>`\\]){3,200})"
    r"@(?P<host>[^\s@/'\"<>`\\]{1,100})",
    re.ASCII,
)
#: What such a place holds in templates, and a port with the path behind it.
_NO_PASSWORD = re.compile(
    r"(?i)^(?:\$.*|.*(?:\$\{|\{\{|%\(|\{[a-z_][\w.]*\}).*|\*+|\[.*|pass|password|passwd|pwd|pw|secret|token|x+|\.+|user|username|your.*|"
    r"my.?password|port|\d{2,5}(?:[/?#][^+=]*)?)$"
)
#: Hosts where the password of a development server is no secret.
_LOCAL_HOST = re.compile(
    r"(?i)^(?:localhost|127\.|0\.0\.0\.0|\[?::1|host\.docker\.internal|[\w-]+\.(?:local|localhost|test|internal|example(?:\.\w+)?)(?![\w.])|"
    r"[a-z][\w-]*(?![\w.]))"
)


def _url_passwords(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for match in _URL.finditer(text):
        password = match["password"]
        default = password.lower() in DEFAULTS or password == match["user"]
        if not _NO_PASSWORD.match(password) and not (default and _LOCAL_HOST.match(match["host"])):
            yield match.span("password")


_AUTHORIZATION = re.compile(
    r"(?i)(?:authorization\\?[\"']?\s{0,2}(?:[:=]|,|=>)\s{0,2}[frb]?\\?[\"']?\s?(?:(?:bearer|basic|token|apikey|digest|negotiate)\s+)"
    r"|\bbearer\s+)(?P<value>[A-Za-z0-9._~+/\-]{12,}={0,2})",
    re.ASCII,
)


def _authorizations(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for match in _AUTHORIZATION.finditer(text):
        value = match["value"]
        if (
            re.search(r"\d|[a-z][A-Z]", value)
            and re.search(r"[A-Za-z]", value)
            and not re.search(r"(?i)your|example|token", value)
        ):
            yield match.span("value")


#: Long runs are cut in an anchor: over `sk-sk-sk-…` Hyperscan takes quadratic time where a run of 32 follows the prefix.
TOKENS = (
    Recogniser(Sensitive.PRIVATE_KEY, ("PRIVATE KEY", "PuTTY-User-Key-File"), _private_keys),
    _formed(Sensitive.AWS_ACCESS_KEY_ID, _AWS_ID, _AWS_ID + r"(?![A-Za-z0-9])"),
    Recogniser(
        Sensitive.AWS_SECRET_ACCESS_KEY,
        (r"(?i)aws[^\n]{0,160}(?:secret|key|token|pass|pw)", r"(?i)secret[^\n]{0,12}access[^\n]{0,12}key", _AWS_ID),
        _aws_secrets,
    ),
    _formed(Sensitive.GITHUB_TOKEN, r"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9]{22}",
            r"github_pat_\w{70,90}", plugin=GitHubTokenDetector),
    _formed(Sensitive.GITLAB_TOKEN, r"gl(?:pat|dt|ft|ffct|soat|rt|rtr|cbt|imt|ptt|agent|oas|wt)-|GR1348941",
            r"gl(?:pat|dt|ft|ffct|soat|rtr?|cbt|imt|ptt|agent|oas|wt)-[\w.\-]{20,320}", plugin=GitLabTokenDetector),
    _formed(Sensitive.SLACK, r"(?i)xox[a-z]-[0-9a-z]|xapp-[0-9]|hooks\.slack\.com/(?:services|workflows)",
            r"xox[abposrcde](?:\.xox[bp])?-[0-9A-Za-z\-]{20,}", r"xapp-\d-[A-Z0-9]+-\d+-[0-9a-f]{40,}", plugin=SlackDetector),
    _formed(Sensitive.STRIPE_KEY, r"(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{20}|whsec_[0-9A-Za-z+/]{24}",
            r"(?:sk|rk)_(?:live|test)_[0-9A-Za-z]{20,}", r"whsec_[0-9A-Za-z+/]{24,}", plugin=StripeDetector),
    _formed(Sensitive.ANTHROPIC_KEY, r"sk-ant-[A-Za-z0-9_\-]{20}", r"sk-ant-[A-Za-z0-9_\-]{40,250}"),
    _formed(Sensitive.OPENAI_KEY, r"sk-[A-Za-z0-9_\-]{20}",
            r"sk-(?!ant-)(?:proj|svcacct|admin|service|None|or-v1)-[A-Za-z0-9_\-]{32,250}", r"sk-[A-Za-z0-9]{40,250}(?![A-Za-z0-9\-])",
            r"sk-[a-f0-9]{32}(?![A-Za-z0-9\-])"),
    _formed(Sensitive.GOOGLE_KEY, r"AIza[0-9A-Za-z_\-]{20}|GOCSPX-[0-9A-Za-z_\-]{20}|ya29\.[0-9A-Za-z_\-]{20}",
            r"AIza[0-9A-Za-z_\-]{35}", r"GOCSPX-[0-9A-Za-z_\-]{28}", r"ya29\.[0-9A-Za-z_\-]{30,}"),
    _formed(Sensitive.HUGGING_FACE_TOKEN, r"hf_[A-Za-z]{34}", r"hf_[A-Za-z]{34}(?![A-Za-z0-9_])"),
    _formed(Sensitive.NPM_TOKEN, r"npm_[A-Za-z0-9]{36}|:_authToken=",
            r"npm_[A-Za-z0-9]{36}", r"(?<=:_authToken=)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    _formed(Sensitive.PYPI_TOKEN, r"pypi-AgE[A-Za-z0-9_\-]{20}", plugin=PypiTokenDetector),
    _formed(Sensitive.SENDGRID_KEY, r"SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}", plugin=SendGridDetector),
    _formed(Sensitive.TWILIO_KEY, r"(?:AC|SK)[a-z0-9]{32}", r"(?:AC|SK)[0-9a-f]{32}(?![A-Za-z0-9])"),
    _formed(Sensitive.TELEGRAM_TOKEN, r"[0-9]{8,10}:[0-9A-Za-z_\-]{35}", r"(?:(?<=bot)|(?<!\d))\d{8,10}:[0-9A-Za-z_\-]{35}(?![\w\-])"),
    _formed(Sensitive.DISCORD, r"[MNO][A-Za-z0-9_\-]{23}[A-Za-z0-9_\-]{0,4}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27}|/api/webhooks/[0-9]",
            r"https://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d{15,21}/[A-Za-z0-9_\-]{60,}", plugin=DiscordBotTokenDetector),
    Recogniser(Sensitive.SERVICE_TOKEN, _ANCHORS, _service_tokens),
    _formed(Sensitive.AZURE_STORAGE_KEY, r"AccountKey=", r"(?<=AccountKey=)[A-Za-z0-9+/]{86}=="),
    Recogniser(Sensitive.JWT, (r"eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{4}",), _jwts),
    Recogniser(Sensitive.URL_PASSWORD, (r"://[^\s@/]{0,400}(?:@[^\s@/]{1,400})?:[^\s]{1,400}@",), _url_passwords),
    Recogniser(Sensitive.AUTHORIZATION, (r"(?i)authorization|bearer(?:\s|\\[nrt])",), _authorizations),
)  # fmt: skip
