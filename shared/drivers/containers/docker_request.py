"""Build the request that creates a container from its specification. Pure, except for checks which hidden paths exist."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from shared.contracts.frozen import Frozen
from shared.drivers.containers.docker_template import (
    INSTALLATION,
    ISOLATED,
    NAME,
    NULL,
    PREFIX,
    TIME_LIMIT,
    Bind,
    BindOptions,
    Common,
    CreateBody,
    DeviceRequest,
    Host,
    JobBody,
    JobHost,
    RuneBody,
)
from shared.drivers.containers.port import ContainerSpec, Mount

SCRATCH = ("/tmp", "/run")
# An installation may lie below it, but in images only its owner may enter it, also through a cover: runc gives that the
# mode of what it covers. So the cover belongs to the user of the job. Podman knows no such option, and keeps mode=755.
ROOT_HOME = Path("/root")
JOB_PIDS = 4096
# Every payload runs below an init, which reaps and forwards signals, and below `timeout` of the coreutils, so that the
# time limit holds while no service watches. When `timeout` kills the payload it ends, and with it the init and all else.
# With --foreground it forwards a SIGTERM once; else the payload gets it twice, while it saves its checkpoint.
TIMEOUT = ("timeout", "--foreground", "--signal=KILL")


class EngineKind(Frozen):
    """Properties of an engine that change the request."""

    rootless: bool = False  #: root inside is the engine's own user outside
    podman: bool = False  #: its tmpfs begins with a copy of what it covers, unless it is set not to


def create_body(spec: ContainerSpec, installation: str, image: str, kind: EngineKind, user: str) -> CreateBody:
    """The request for `spec`; `user` is that of a job, uid:gid."""
    common = Common(
        image=image,
        entrypoint=(*_limited(spec.time_limit_s), *spec.command),
        working_dir=str(spec.cwd),
        env=_environment(spec),
        labels=_labels(spec, installation),
        user=user if spec.isolated else engine_user(kind),
    )
    if spec.isolated:
        return JobBody(**dict(common), host_config=_job_host(spec, kind, user))
    return RuneBody(**dict(common), host_config=_open_host(spec))


def engine_user(kind: EngineKind) -> str:
    """This process's user, as it is called inside a container."""
    return "0:0" if kind.rootless else f"{os.getuid()}:{os.getgid()}"


def job_user(kind: EngineKind, of_root: str) -> str:
    """The user of jobs: this process's, but `of_root` where that is root outside, too."""
    return of_root if os.getuid() == 0 and not kind.rootless else engine_user(kind)


def _job_host(spec: ContainerSpec, kind: EngineKind, user: str) -> JobHost:
    return JobHost(
        tmpfs=_tmpfs(spec, kind, user),
        mounts=tuple(_binds(spec)),
        memory=spec.memory_bytes or 0,
        memory_swap=spec.memory_bytes or 0,
        pids_limit=spec.pids or JOB_PIDS,
        shm_size=spec.shm_bytes or spec.memory_bytes or 0,
        device_requests=_devices(spec),
    )


def _open_host(spec: ContainerSpec) -> Host:
    # On the host's network a rune binds to loopback, as it does without an engine.
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
    # A name without a value is removed. The engine adds the image's variables, and PATH and HOME where not given.
    given = tuple(f"{name}={value}" for name, value in spec.env.items())
    return given if "HOSTNAME" in spec.env else (*given, "HOSTNAME")


def _labels(spec: ContainerSpec, installation: str) -> dict[str, str]:
    own = {INSTALLATION: installation, NAME: spec.name, ISOLATED: "yes" if spec.isolated else "no"}
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


def _tmpfs(spec: ContainerSpec, kind: EngineKind, user: str) -> dict[str, str]:
    """Scratch directories, and an empty read-only cover over what is hidden below a mount."""
    size = f",size={spec.memory_bytes}" if spec.memory_bytes else ""
    scratch = dict.fromkeys(SCRATCH, f"rw,exec,nosuid,nodev,mode=1777{size}")
    mounts = {str(mount.path) for mount in spec.mounts}
    cover = f"ro,nosuid,nodev,noexec,mode=755{',notmpcopyup' if kind.podman else ''}"
    covers = {str(path): cover for path in _covered(spec) if path.is_dir()}
    if any(ROOT_HOME in mount.path.parents for mount in spec.mounts):
        uid, _, gid = user.partition(":")
        covers[str(ROOT_HOME)] = cover if kind.podman else f"{cover},uid={uid},gid={gid}"
    return {path: options for path, options in (scratch | covers).items() if path not in mounts}


def _covered(spec: ContainerSpec) -> list[Path]:
    """Hidden paths that a mount would show; other hidden paths do not exist in the container."""
    mounts = {mount.path for mount in spec.mounts}
    places = mounts.union(spec.hidden)
    nearest = {path: next((above for above in path.parents if above in places), None) for path in spec.hidden}
    return [path for path, above in nearest.items() if path.exists() and path not in mounts and above in mounts]


def _devices(spec: ContainerSpec) -> tuple[DeviceRequest, ...]:
    if not spec.devices:
        return ()
    return (DeviceRequest(device_ids=tuple(str(index) for index in spec.devices)),)
