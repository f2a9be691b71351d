"""Typed request bodies for creating containers: one for jobs, with all their isolation, and one for runes.

The proxy before the engine's socket (deploy/docker) admits only a `JobBody`, so every field that is added here is a
permission granted. Names are those of the Engine API: https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal

PREFIX = "soulforge."
INSTALLATION = "soulforge-installation"  #: the owner; a container without this label is never touched
NAME = "soulforge-name"
ISOLATED = "soulforge-isolated"
TIME_LIMIT = "soulforge-time-limit-s"

NULL = "/dev/null"


def engine_name(installation: str, name: str) -> str:
    """The engine's name of a container; engines allow no @ in it."""
    return f"{installation}-{name.replace('@', '_at_')}"


def _covering(options: dict[str, str]) -> dict[str, str]:
    if any("," in path or not path.startswith("/") or ".." in Path(path).parts for path in options):
        raise ValueError("a tmpfs needs an absolute path")
    return options


class Body(BaseModel):
    """Part of a request; unknown fields are refused."""

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
    device_ids: tuple[str, ...] = Field(alias="DeviceIDs", min_length=1)
    capabilities: tuple[tuple[Literal["gpu"]]] = (("gpu",),)


class Restart(Body):
    name: Literal["no"] = "no"
    maximum_retry_count: Literal[0] = 0


class LogOptions(Body):
    """At most 64 MiB of logs: a job that prints without end would fill the engine's disk."""

    max_size: Literal["67108864"] = Field("67108864", alias="max-size")
    max_file: Literal["1"] = Field("1", alias="max-file")


class LogConfig(Body):
    type: Literal["json-file"] = "json-file"
    config: LogOptions = LogOptions()


class Health(Body):
    """Disables the image's own health check."""

    test: tuple[Literal["NONE"]] = ("NONE",)


class Host(Body):
    """Settings of every container: only the capabilities asked for, no new ones, an init, no restart."""

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
    """Settings of a job: all of its isolation."""

    network_mode: Literal["none"] = "none"
    readonly_rootfs: Literal[True] = True
    tmpfs: Annotated[dict[str, str], AfterValidator(_covering)] = Field(default_factory=dict)
    pids_limit: int = Field(gt=0)
    nano_cpus: int = Field(0, description="Billionths of a CPU; 0 is all of them.")
    cap_add: tuple[()] = ()


class Common(Body):
    """A container to create. `entrypoint` is the whole command: the image adds nothing to it."""

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
