"""The rules of the proxy: a closed table of calls, and jobs that fit the template. Pure except for checks of paths.

Nothing from a client reaches the engine as it was written: the query is built here, the container is addressed by the
id that was inspected, and the body of a new job is the validated template's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from shared.contracts.frozen import Frozen
from shared.drivers.containers.docker_template import INSTALLATION, ISOLATED, NAME, NULL, Bind, JobBody

Query = dict[str, str]
VERSION = r"(?P<version>/v\d+\.\d+)?"
CONTAINER = r"/containers/(?P<container>[A-Za-z0-9][A-Za-z0-9_.-]*)"
MOST_LINES = 10_000


class RefusedError(Exception):
    """The call is refused; the message is the reason."""


class Limits(Frozen):
    """The installation whose containers may be used, and the images and paths of new jobs. Paths include all below."""

    installation: str
    images: frozenset[str]
    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    user: str | None = None


class Scope(StrEnum):
    """The object of a call."""

    ENGINE = "engine"
    LIST = "list"
    OURS = "ours"  #: one container of the installation
    JOB = "job"  #: one isolated container of the installation
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


def check_ours(labels: dict[str, str], scope: Scope, limits: Limits) -> None:
    """Raise RefusedError unless a container with these labels may be handled so."""
    if labels.get(INSTALLATION) != limits.installation:
        raise RefusedError("the container is not Soulforge's")
    if scope is Scope.JOB and labels.get(ISOLATED) != "yes":
        raise RefusedError("a rune is created and removed at deployment, not through the proxy")


def list_query(limits: Limits) -> Query:
    return {"all": "1", "filters": json.dumps({"label": [f"{INSTALLATION}={limits.installation}"]})}


def job(name: str, raw: bytes, limits: Limits) -> JobBody:
    """Parse the body of a new job. Raises RefusedError where it does not fit the template or the limits."""
    try:
        body = JobBody.model_validate_json(raw)
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3])
        raise RefusedError(f"not a job of the template: {places}") from error
    for holds, reason in _conditions(name, body, limits):
        if not holds:
            raise RefusedError(reason)
    for bind in body.host_config.mounts:
        check_bind(bind, limits)
    return body


def check_bind(bind: Bind, limits: Limits) -> None:
    """Raise RefusedError unless it shows a path below the roots, at the same place and without a link on the way."""
    if bind.source == NULL and bind.read_only:
        return
    path = Path(bind.source)
    if bind.source != bind.target or not path.is_absolute() or path.resolve() != path:
        raise RefusedError(f"{bind.source} is not a plain path that is the same inside as outside")
    if bind.read_only and not bind.bind_options.non_recursive:
        raise RefusedError(f"{bind.source}: a read-only bind must not be recursive")
    roots = limits.writable if not bind.read_only else (*limits.readable, *limits.writable)
    if not any(path.is_relative_to(root) for root in roots):
        use = "read" if bind.read_only else "write"
        raise RefusedError(f"{bind.source} is not below a directory that jobs may {use}")


def _conditions(name: str, body: JobBody, limits: Limits) -> tuple[tuple[bool, str], ...]:
    labels = body.labels
    return (
        (body.image in limits.images, f"the image {body.image} is not on the list"),
        (name.startswith(f"{limits.installation}-"), f"the name must begin with {limits.installation}-"),
        (labels.get(INSTALLATION) == limits.installation, "the label of the installation is missing"),
        (labels.get(ISOLATED) == "yes" and NAME in labels, "the labels of a job are missing"),
        (limits.user in (None, body.user), f"jobs run as {limits.user}"),
        (body.host_config.memory > 0, "a job needs a memory limit"),
        (body.host_config.memory == body.host_config.memory_swap, "a job gets no swap"),
    )


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
    _call("POST", CONTAINER, Scope.OURS, action="start"),
    _call("POST", CONTAINER, Scope.OURS, _signal, "kill"),
    _call("DELETE", CONTAINER, Scope.JOB, _with_volumes),
)
