"""Addresses on the Internet that are globally routed, distinguished from versions by what precedes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

from services.harvester.redaction.policy import RedactionPolicy
from services.harvester.redaction.recogniser import Range, Recogniser
from services.harvester.redaction.sensitive import Sensitive

_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d|\.\w)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{2,34}(?![\w:])", re.ASCII)
_IS_VERSION = re.compile(
    r"(?i)(?:\b(?:v|ver|version|versions|release|released|build|firmware|driver|upgrade[ds]?|downgrade[ds]?|update[ds]?|bump(?:ed|s)?|"
    r"install(?:ed|ing|s)?|pip|package|changelog|section|chapter|rev|revision|oid|"
    r"tag|clause|sdk)\b[^\n]{0,48}|[=<>~!^]=?\s?[\"']?|\w@|[a-z]/|§ ?|-)$"
)
_IS_ADDRESS = re.compile(
    r"(?i)\b(?:ip|ips|ipv4|address|host|hosts|server|ping|ssh|client|remote|addr|nameserver|inet|login|peer|firewall)\b|://$"
)


def _ip_addresses(text: str, policy: RedactionPolicy) -> Iterator[Range]:
    for match in _IPV4.finditer(text):
        before = text[max(0, text.rfind("\n", 0, match.start()) + 1, match.start() - 60) : match.start()]
        if _is_global(match[0]) and not _is_version(before):
            yield match.span()
    for match in _IPV6.finditer(text):
        candidate = match[0].rstrip(":") if match[0].endswith(":") and not match[0].endswith("::") else match[0]
        if _is_global(candidate):
            yield match.start(), match.start() + len(candidate)


def _is_version(before: str) -> bool:
    """Whether four numbers with dots are a version, from what precedes them on the line: the nearest word decides."""
    version, addresses = _IS_VERSION.search(before), list(_IS_ADDRESS.finditer(before))
    return version is not None and not (addresses and addresses[-1].end() > version.start() + 1)


def _is_global(text: str) -> bool:
    try:
        return ip_address(text).is_global
    except ValueError:
        return False


ADDRESSES = (
    Recogniser(
        Sensitive.IP_ADDRESS,
        (r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}", "[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{2}"),
        _ip_addresses,
    ),
)
