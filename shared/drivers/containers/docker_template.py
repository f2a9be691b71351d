"""What the engine is asked to create: one typed body for jobs, with every wall in it, and one for runes.

The proxy before the engine's socket (deploy/docker) lets only a `JobBody` through, so a field that is added here is a
power that is given. Names are those of the Engine API: https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from shared.contracts.frozen import Frozen
from shared.drivers.containers.port import ContainerSpec, Mount

PREFIX = "soulforge."
HOUSE = "soulforge-house"  #: whose it is; nothing without this label is ever touched
NAME = "soulforge-name"
ISOLATED = "soulforge-isolated"
TIME_LIMIT = "soulforge-time-limit-s"

SCRATCH = ("/tmp", "/run")
NULL = "/dev/null"
JOB_PIDS = 4096
# Without it a job that prints without end fills the disk of the engine.
LOG_BYTES = str(64 << 20)
# Always in the way of the payload: an init that reaps and forwards signals, and the time limit, which thereby holds
# while no service watches. When `timeout` of the coreutils kills the payload, it ends, the init with it, and so all.
# In the foreground it hands a SIGTERM on once; else the payload gets it a second time, while it saves its checkpoint.
TIMEOUT = ("timeout", "--foreground", "--signal=KILL")


def _covering(options: dict[str, str]) -> dict[str, str]:
    if any("," in path or not path.startswith("/") or ".." in Path(path).parts for path in options):
        raise ValueError("a tmpfs needs an absolute path")
    return options


class EngineKind(Frozen):
    """What an engine is, where that changes the request."""

    rootless: bool = False  #: root inside is the engine's own user outside
    podman: bool = False  #: its tmpfs begins with a copy of what it covers, unless told otherwise


class Body(BaseModel):
    """Part of a request; a field that it does not know is refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_pascal, validate_by_name=True, strict=True
    )


class BindOptions(Body):
    propagation: Literal["rprivate"] = "rprivate"
    non_recursive: bool


class Bind(Body):
    """A path of the host at the same path inside. A source that does not exist is an error.

    A read-only bind is not recursive: engines before 25 leave file systems that are mounted below it writable.
    """

    type: Literal["bind"] = "bind"
    source: str
    target: str
    read_only: bool
    bind_options: BindOptions


class DeviceRequest(Body):
    driver: Literal["nvidia"] = "nvidia"
    count: Literal[0] = 0
    device_ids: tuple[str, ...] = Field(alias="DeviceIDs")
    capabilities: tuple[tuple[Literal["gpu"]]] = (("gpu",),)


class Restart(Body):
    name: Literal["no"] = "no"
    maximum_retry_count: Literal[0] = 0


class LogOptions(Body):
    max_size: str = Field(LOG_BYTES, alias="max-size")
    max_file: str = Field("1", alias="max-file")


class LogConfig(Body):
    type: Literal["json-file"] = "json-file"
    config: LogOptions = LogOptions()


class Health(Body):
    """The image's own health check never runs."""

    test: tuple[Literal["NONE"]] = ("NONE",)


class Host(Body):
    """What holds for every container: no capability but those asked for, no new ones, an init, no restart."""

    network_mode: Literal["none", "host"]
    readonly_rootfs: bool
    tmpfs: dict[str, str] = Field(default_factory=dict)
    mounts: tuple[Bind, ...] = ()
    memory: int = 0
    memory_swap: int = 0
    pids_limit: int | None = None
    shm_size: int = 0
    ipc_mode: Literal["private"] = "private"
    cap_drop: tuple[Literal["ALL"]] = ("ALL",)
    cap_add: tuple[str, ...] = ()
    security_opt: tuple[Literal["no-new-privileges"]] = ("no-new-privileges",)
    device_requests: tuple[DeviceRequest, ...] = ()
    init: Literal[True] = True
    restart_policy: Restart = Restart()
    log_config: LogConfig = LogConfig()


class JobHost(Host):
    """A job's walls."""

    network_mode: Literal["none"] = "none"
    readonly_rootfs: Literal[True] = True
    tmpfs: Annotated[dict[str, str], AfterValidator(_covering)] = Field(default_factory=dict)
    pids_limit: int = Field(gt=0)
    cap_add: tuple[()] = ()


class Common(Body):
    """A container to create. `entrypoint` is the whole command: the image adds no word to it."""

    image: str
    entrypoint: tuple[str, ...]
    cmd: tuple[()] = ()
    working_dir: str
    env: tuple[str, ...]
    labels: dict[str, str]
    user: str = Field(pattern=r"^\d+:\d+$")
    healthcheck: Health = Health()

    def request(self) -> dict[str, object]:
        return self.model_dump(by_alias=True, mode="json")


class RuneBody(Common):
    host_config: Host


class JobBody(Common):
    host_config: JobHost


CreateBody = RuneBody | JobBody


def create_body(spec: ContainerSpec, house: str, image: str, kind: EngineKind) -> CreateBody:
    """The request for `spec`."""
    common = Common(
        image=image,
        entrypoint=(*_limited(spec.time_limit_s), *spec.command),
        working_dir=str(spec.cwd),
        env=_environment(spec),
        labels=_labels(spec, house),
        user="0:0" if kind.rootless else f"{os.getuid()}:{os.getgid()}",
    )
    if spec.isolated:
        return JobBody(**dict(common), host_config=_job_host(spec, kind))
    return RuneBody(**dict(common), host_config=_open_host(spec))


def _job_host(spec: ContainerSpec, kind: EngineKind) -> JobHost:
    return JobHost(
        tmpfs=_tmpfs(spec, kind),
        mounts=tuple(_binds(spec)),
        memory=spec.memory_bytes or 0,
        memory_swap=spec.memory_bytes or 0,
        pids_limit=spec.pids or JOB_PIDS,
        shm_size=spec.shm_bytes or spec.memory_bytes or 0,
        device_requests=_devices(spec),
    )


def _open_host(spec: ContainerSpec) -> Host:
    # On the host's network a rune binds to loopback by itself, as it does without an engine.
    return Host(
        network_mode="host",
        readonly_rootfs=False,
        mounts=tuple(_binds(spec)),
        memory=spec.memory_bytes or 0,
        memory_swap=spec.memory_bytes or 0,
        pids_limit=spec.pids,
        shm_size=spec.shm_bytes or spec.memory_bytes or 0,
        cap_add=spec.capabilities,
        device_requests=_devices(spec),
    )


def _limited(time_limit_s: float | None) -> tuple[str, ...]:
    return () if time_limit_s is None else (*TIMEOUT, f"{time_limit_s:g}")


def _environment(spec: ContainerSpec) -> tuple[str, ...]:
    # A name without a value is removed. The engine adds the image's own, PATH and HOME where they are not given.
    given = tuple(f"{name}={value}" for name, value in spec.env.items())
    return given if "HOSTNAME" in spec.env else (*given, "HOSTNAME")


def _labels(spec: ContainerSpec, house: str) -> dict[str, str]:
    own = {HOUSE: house, NAME: spec.name, ISOLATED: "yes" if spec.isolated else "no"}
    if spec.time_limit_s is not None:
        own[TIME_LIMIT] = f"{spec.time_limit_s:g}"
    return {**{PREFIX + key: value for key, value in spec.labels.items()}, **own}


def _binds(spec: ContainerSpec) -> Iterator[Bind]:
    chosen = {mount.path: mount for mount in spec.mounts}
    covered = (Mount(path=path) for path in _covered(spec) if not path.is_dir())
    for mount in chosen.values():
        yield _bind(str(mount.path), str(mount.path), mount.read_only)
    for cover in covered:
        yield _bind(NULL, str(cover.path), read_only=True)


def _bind(source: str, target: str, read_only: bool) -> Bind:
    return Bind(source=source, target=target, read_only=read_only, bind_options=BindOptions(non_recursive=read_only))


def _tmpfs(spec: ContainerSpec, kind: EngineKind) -> dict[str, str]:
    """Its own scratch directories, and an empty read-only cover over what is hidden below a mount."""
    size = f",size={spec.memory_bytes}" if spec.memory_bytes else ""
    scratch = dict.fromkeys(SCRATCH, f"rw,exec,nosuid,nodev,mode=1777{size}")
    mounts = {str(mount.path) for mount in spec.mounts}
    empty = ",notmpcopyup" if kind.podman else ""
    covers = {str(path): f"ro,nosuid,nodev,noexec,mode=755{empty}" for path in _covered(spec) if path.is_dir()}
    return {path: options for path, options in (scratch | covers).items() if path not in mounts}


def _covered(spec: ContainerSpec) -> list[Path]:
    """What is hidden below a mount; everything else that is hidden is not there at all."""
    mounts = {mount.path for mount in spec.mounts}
    return [path for path in spec.hidden if path.exists() and path not in mounts and mounts & set(path.parents)]


def _devices(spec: ContainerSpec) -> tuple[DeviceRequest, ...]:
    if not spec.devices:
        return ()
    return (DeviceRequest(device_ids=tuple(str(index) for index in spec.devices)),)
