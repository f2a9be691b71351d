"""The calls that the proxy allows: a closed table, pure. What a new container may be is in limits.py.

Nothing from a client reaches the engine as it was written: the query is built here, the container is addressed by the
id that was inspected, and the body of a new container is the validated template's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from shared.drivers.containers.docker_template import INSTALLATION

Query = dict[str, str]
# Older versions of the API ignore parts of the template.
VERSION = r"(?P<version>/v1\.[4-9]\d)?"
CONTAINER = r"/containers/(?P<container>[A-Za-z0-9][A-Za-z0-9_.-]*)"
MOST_LINES = 10_000


class RefusedError(Exception):
    """The call is refused; the message is the reason."""


class Scope(StrEnum):
    """The object of a call."""

    ENGINE = "engine"
    LIST = "list"
    OURS = "ours"  #: one container of the installation
    START = "start"  #: one container of the installation, whose binds are mounted meanwhile
    REMOVE = "remove"  #: one isolated container of the installation
    CREATE = "create"


class Call(NamedTuple):
    method: str
    path: re.Pattern[str]
    scope: Scope
    query: Callable[[Query], Query]


class AllowedCall(NamedTuple):
    """An allowed call, with its container and the query to send."""

    scope: Scope
    version: str
    container: str
    action: str
    query: Query


def allow(method: str, path: str, query: Query) -> AllowedCall:
    """Find the call in the table. Raises RefusedError for any other."""
    for call in CALLS:
        if call.method == method and (found := call.path.fullmatch(path)):
            part = found.groupdict()
            action = part.get("action") or ""
            return AllowedCall(
                call.scope, part["version"] or "", part.get("container") or "", action, call.query(query)
            )
    raise RefusedError(f"{method} {path} is not among the calls that Soulforge needs")


def list_query(installation: str) -> Query:
    return {"all": "1", "filters": json.dumps({"label": [f"{INSTALLATION}={installation}"]})}


def _nothing(_: Query) -> Query:
    return {}


def _signal(query: Query) -> Query:
    return {"signal": _number(query.get("signal", "9"), 64)}


def _tail(query: Query) -> Query:
    return {"stdout": "1", "stderr": "1", "tail": _number(query.get("tail", ""), MOST_LINES)}


def _single_sample(_: Query) -> Query:
    return {"stream": "false", "one-shot": "true"}


def _named(query: Query) -> Query:
    return {"name": query.get("name", "")}


def _with_volumes(_: Query) -> Query:
    return {"v": "1"}


def _number(text: str, most: int) -> str:
    if not text.isdecimal() or int(text) > most:
        raise RefusedError(f"{text!r} is not a number up to {most}")
    return text


def _call(
    method: str, path: str, scope: Scope, query: Callable[[Query], Query] = _nothing, action: str | None = None
) -> Call:
    end = f"/(?P<action>{action})" if action else ""
    return Call(method, re.compile(VERSION + path + end), scope, query)


CALLS = (
    _call("GET", "", Scope.ENGINE, action="_ping"),
    _call("HEAD", "", Scope.ENGINE, action="_ping"),
    _call("GET", "", Scope.ENGINE, action="version"),
    _call("GET", "", Scope.ENGINE, action="info"),
    _call("GET", "/containers/json", Scope.LIST),
    _call("POST", "/containers/create", Scope.CREATE, _named),
    _call("GET", CONTAINER, Scope.OURS, action="json"),
    _call("GET", CONTAINER, Scope.OURS, _tail, "logs"),
    _call("GET", CONTAINER, Scope.OURS, _single_sample, "stats"),
    _call("GET", CONTAINER, Scope.OURS, action="top"),
    _call("POST", CONTAINER, Scope.START, action="start"),
    _call("POST", CONTAINER, Scope.OURS, _signal, "kill"),
    _call("DELETE", CONTAINER, Scope.REMOVE, _with_volumes),
)
