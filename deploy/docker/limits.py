"""What a new container may be, and which containers may be handled. Pure.

A job gets no more than the template and the limits; a rune is created by a proxy for deployment only (`--runes`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from deploy.docker.rules import RefusedError, Scope
from shared.contracts.frozen import Frozen
from shared.drivers.containers.docker_request import JOB_PIDS, ROOT_HOME, SCRATCH
from shared.drivers.containers.docker_template import (
    INSTALLATION,
    ISOLATED,
    NAME,
    NULL,
    PREFIX,
    TIME_LIMIT,
    Bind,
    CreateBody,
    JobBody,
    RuneBody,
    engine_name,
)

ENGINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
# The name of a rune's container, also that of another installation whose name begins with this one's.
RUNE = "-rune-"
ROLE = f"{PREFIX}role"
OWN_LABELS = {INSTALLATION, NAME, ISOLATED, TIME_LIMIT}
MOST_PARTS = 64
SCRATCH_OPTIONS = re.compile(r"rw,exec,nosuid,nodev,mode=1777,size=(\d{1,15})")
COVER_OPTIONS = re.compile(r"ro,nosuid,nodev,noexec,mode=755(,notmpcopyup|,uid=\d{1,10},gid=\d{1,10})?")
GIB = 1 << 30
Conditions = Iterator[tuple[bool, str]]


class Limits(Frozen):
    """The installation whose containers may be handled, and what new ones may have. Paths include all below them."""

    installation: str
    images: frozenset[str]
    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    user: str = Field(pattern=r"^(0|[1-9]\d{0,9}):(0|[1-9]\d{0,9})$", description="uid:gid of every job")
    memory_bytes: int = 64 * GIB
    nano_cpus: int = Field(0, description="Billionths of a CPU that a job may use; 0 is all.")
    devices: frozenset[str] = frozenset()
    runes: bool = Field(False, description="Whether runes, and only they, may be created and removed.")

    @property
    def root(self) -> bool:
        """Whether jobs run as root inside, who is somebody else outside only with a rootless engine."""
        return "0" in self.user.split(":")


def check_ours(labels: Mapping[str, str], scope: Scope, limits: Limits) -> None:
    """Raise RefusedError unless a container with these labels may be handled so."""
    if labels.get(INSTALLATION) != limits.installation:
        raise RefusedError("the container is not Soulforge's")
    if scope is Scope.REMOVE and labels.get(ISOLATED) != "yes" and not limits.runes:
        raise RefusedError("a rune is created and removed at deployment, not through this proxy")


def new_container(name: str, raw: bytes, limits: Limits) -> CreateBody:
    """Parse the body of a new container. Raises RefusedError where it does not fit the template or the limits."""
    kind = RuneBody if limits.runes else JobBody
    try:
        body = kind.model_validate_json(raw)
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3])
        what = "rune" if limits.runes else "job"
        raise RefusedError(f"not a {what} of the template: {places}") from error
    _require(_named(name, body, limits))
    if isinstance(body, RuneBody):
        return body
    _require(_labelled(body))
    _require(_bounded(body, limits))
    for bind in body.host_config.mounts:
        _check_bind(bind, body, limits)
    for path, options in body.host_config.tmpfs.items():
        _check_tmpfs(path, options, body)
    host = body.host_config.model_copy(update={"nano_cpus": limits.nano_cpus})
    return body.model_copy(update={"host_config": host})


def check_started(inspected: Mapping[str, Any], limits: Limits) -> None:
    """Raise RefusedError unless a container that the engine has may be started; what it binds is judged by its targets."""
    if inspected["Config"]["Labels"].get(ISOLATED) != "yes":
        return
    if inspected["Config"]["User"] != limits.user:
        raise RefusedError(f"jobs run as {limits.user}")
    for mount in inspected["Mounts"]:
        if mount["Source"] != NULL:
            check_root(mount["Destination"], not mount["RW"], limits)


def check_root(path: str, read_only: bool, limits: Limits) -> None:
    """Raise RefusedError unless a path is below a directory that jobs may use so."""
    roots = (*limits.readable, *limits.writable) if read_only else limits.writable
    if os.path.normpath(path) != path or not any(Path(path).is_relative_to(root) for root in roots):
        use = "read" if read_only else "write"
        raise RefusedError(f"{path} is not a plain path below a directory that jobs may {use}")


def _require(conditions: Conditions) -> None:
    for holds, reason in conditions:
        if not holds:
            raise RefusedError(reason)


def _named(name: str, body: CreateBody, limits: Limits) -> Conditions:
    labels = body.labels
    yield body.image in limits.images, f"the image {body.image} is not on the list"
    yield labels.get(INSTALLATION) == limits.installation, "the label of the installation is missing"
    yield labels.get(ISOLATED) == ("no" if limits.runes else "yes"), "the label of a job, or of a rune, is missing"
    yield bool(labels.get(NAME)), f"the label {NAME} is missing"
    expected = engine_name(limits.installation, labels[NAME])
    yield name == expected, f"the name must be that of the label {NAME}: {expected}"
    yield ENGINE_NAME.fullmatch(name) is not None, f"{name!r} is not a name of a container"


def _labelled(body: JobBody) -> Conditions:
    yield RUNE not in f"-{body.labels[NAME]}", "the names of runes are reserved"
    yield body.labels.get(ROLE) != "rune", "a job does not have the labels of a rune"
    unknown = [key for key in body.labels if key not in OWN_LABELS and not key.startswith(PREFIX)]
    yield not unknown, f"a job has labels of Soulforge only, not {', '.join(unknown)}"


def _bounded(body: JobBody, limits: Limits) -> Conditions:
    host = body.host_config
    yield body.user == limits.user, f"jobs run as {limits.user}"
    yield 0 < host.memory <= limits.memory_bytes, f"a job needs a memory limit of at most {limits.memory_bytes} bytes"
    yield host.memory == host.memory_swap, "a job gets no swap"
    yield 0 <= host.shm_size <= host.memory, "/dev/shm is at most as large as the memory of the job"
    yield host.pids_limit <= JOB_PIDS, f"a job has at most {JOB_PIDS} processes"
    yield host.nano_cpus == 0, "the CPUs of a job are the proxy's to set"
    devices = {index for request in host.device_requests for index in request.device_ids}
    yield devices <= limits.devices, f"not on the list of devices: {', '.join(sorted(devices - limits.devices))}"
    parts = (host.mounts, host.tmpfs, host.device_requests, body.env, body.labels, body.entrypoint)
    yield max(map(len, parts)) <= MOST_PARTS, f"more than {MOST_PARTS} binds, labels, variables or words"


def _check_bind(bind: Bind, body: JobBody, limits: Limits) -> None:
    """A bind shows a path at the same place inside; /dev/null may cover a file below a bind."""
    if bind.source == NULL and bind.read_only:
        _check_below(bind.target, body)
        return
    if bind.source != bind.target:
        raise RefusedError(f"{bind.source} is not the same inside as outside")
    if bind.read_only and not bind.bind_options.non_recursive:
        raise RefusedError(f"{bind.source}: a read-only bind must not be recursive")
    check_root(bind.source, bind.read_only, limits)


def _check_tmpfs(path: str, options: str, body: JobBody) -> None:
    if path in SCRATCH:
        size = SCRATCH_OPTIONS.fullmatch(options)
        if not size or int(size[1]) > body.host_config.memory:
            raise RefusedError(f"the tmpfs {path} needs the options of the template, and a size of at most the memory")
        return
    if not COVER_OPTIONS.fullmatch(options):
        raise RefusedError(f"the tmpfs {path} is neither scratch space nor an empty cover")
    if path != str(ROOT_HOME):
        _check_below(path, body)


def _check_below(path: str, body: JobBody) -> None:
    """A cover hides something below a bind."""
    binds = {bind.target for bind in body.host_config.mounts if bind.source != NULL}
    if os.path.normpath(path) != path or not binds & set(map(str, Path(path).parents)):
        raise RefusedError(f"{path} is covered, but is not below a bind")
