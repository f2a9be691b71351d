"""What every table of `soulforge.toml` is built from, and its small tables: bases, personas, jobs, Docker, the runtime, pruning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, ByteSize, Field, PlainSerializer, ValidationInfo, model_validator

from shared.config.settings import PROJECT
from shared.contracts.forge import EngineName
from shared.contracts.frozen import Frozen
from shared.contracts.karma import PERSONA_PATTERN

MIB = 1024**2
GIB = 1024**3
EMBEDDED_BASE = "smollm2-135m-instruct"  #: needs no declaration: `soulforge up` prepares it


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,40}", text):
        raise ValueError("a name is up to 41 of a-z, 0-9, _ and -, and starts with a letter or digit")
    return text


def _base_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", text):
        raise ValueError(
            "the name of a base is up to 81 letters, digits, '.', '_' and '-', and starts with a letter or digit"
        )
    return text


def _persona(text: str) -> str:
    if not re.fullmatch(PERSONA_PATTERN, text):
        raise ValueError(f"the name of a persona must match {PERSONA_PATTERN}")
    return text


def _from_file(path: Path, info: ValidationInfo) -> Path:
    # Not resolve(): the interpreter of a virtual environment is a link that must stay one.
    folder: Path = (info.context or {}).get("folder", Path())
    return (folder / path.expanduser()).absolute()


def _plain_folder(path: Path, info: ValidationInfo) -> Path:
    # The proxy before a container engine lets jobs read plain paths only, without links and "..".
    return _from_file(path, info).resolve()


def _size(size: int) -> str | int:
    unit, bytes_ = ("GiB", GIB) if size % GIB == 0 else ("MiB", MIB)
    return f"{size // bytes_}{unit}" if size % bytes_ == 0 else int(size)


Name = Annotated[str, AfterValidator(_name)]
BaseName = Annotated[str, AfterValidator(_base_name)]
Persona = Annotated[str, AfterValidator(_persona)]
Interpreter = Annotated[Path, AfterValidator(_from_file)]  #: a relative path starts at the folder of soulforge.toml
SecretFile = Interpreter
Folder = Annotated[Path, AfterValidator(_plain_folder)]
Days = Annotated[int, Field(ge=1, le=36500)]
Size = Annotated[ByteSize, PlainSerializer(_size, when_used="json")]  #: bytes, or text like "256MiB"


class Section(Frozen):
    """A table of the file that one service reads: declared in its settings.py, validated with the whole file."""

    table: ClassVar[str]


class TrainingTable(Section):
    """What not only the forge reads of its table: it is checked before there is anything to train."""

    table: ClassVar[str] = "training"

    memory: Size = Field(ByteSize(10 * GIB), gt=0, description="Most resident memory of a trainer job.")


class BaseConfig(Frozen):
    """A base model of the owner's. Nothing is ever written into its folder."""

    path: Folder = Field(description="Its folder: config.json, safetensors, tokenizer and chat template.")


class PersonaConfig(Frozen):
    """What is decided for one persona."""

    base: BaseName | None = Field(
        None, description="Base it is trained on; default: that of the first rune that takes adapters."
    )
    promotion: Literal["automatic", "approval"] = Field(
        "automatic",
        description="A version that passed becomes the champion by itself, or once its owner approves of it.",
    )
    away: Literal["wait", "portal", "refuse"] = Field(
        "wait",
        description="While no engine can answer: wait for one, let the portal of [gateway.portal] answer, or answer 503.",
    )
    leaves_home: bool = Field(False, description="Whether what its clients write may be sent to the portal.")
    approve_within_h: float = Field(
        168.0, gt=0, le=8784, description="Hours that a version waits for approval; then it is kept, not promoted."
    )

    @model_validator(mode="after")
    def _may_be_sent_away(self) -> Self:
        if self.away == "portal" and not self.leaves_home:
            raise ValueError(
                'away = "portal" sends what its clients write to another server: it needs leaves_home = true'
            )
        return self


@dataclass(frozen=True)
class Environment:
    """Where a job's Python packages are: its interpreter, the folders of this machine that it needs mounted, its image."""

    python: str
    mounted: tuple[Path, ...]
    image: str | None

    @property
    def missing(self) -> bool:
        """Whether it is not installed on this machine; what an image holds is not seen from here."""
        return bool(self.mounted) and not Path(self.python).is_file()


class UnslothConfig(Frozen):
    """The environment of the training engine Unsloth, which is optional."""

    python: Interpreter = Field(
        PROJECT / ".venv-unsloth/bin/python",
        description="Interpreter with unsloth on this machine; containers get its environment mounted.",
    )
    image: str | None = Field(None, description="Image of its containers, with `docker`; default: that of [jobs].")
    image_python: str | None = Field(
        None, description="Interpreter with unsloth inside the image; default: the mounted one."
    )


class TrainingJobsConfig(Frozen):
    """In how many processes a training runs."""

    executor: Literal["local", "ray"] = Field(
        "local",
        description="local: in the job's own process; ray: in workers of Ray Train, which `make setup-ray` installs.",
    )
    workers: int = Field(1, ge=1, le=64, description="Workers of Ray Train: each takes an equal share of every step.")
    python: Interpreter = Field(
        PROJECT / ".venv-ray/bin/python",
        description="Interpreter with ray, on top of the environment of [jobs]; containers get both mounted.",
    )

    @model_validator(mode="after")
    def _has_workers(self) -> Self:
        if self.workers > 1 and self.executor == "local":
            raise ValueError('more than one worker needs executor = "ray"')
        return self


class JobsConfig(Frozen):
    """Where trainer and evaluator run."""

    driver: Literal["process", "docker"] = "process"
    python: Interpreter = Field(
        PROJECT / ".venv-jobs/bin/python",
        description="Interpreter with torch on this machine; containers get its environment mounted.",
    )
    image: str | None = Field(None, description="Image of the jobs' containers, with `docker`.")
    image_python: str | None = Field(
        None, description="Interpreter with torch inside the image; default: the mounted one."
    )
    allow_unisolated: bool = Field(
        False,
        description="Start jobs also where they cannot be isolated: they may read, write and reach what their user can.",
    )
    unsloth: UnslothConfig = UnslothConfig()
    forge: TrainingJobsConfig = TrainingJobsConfig()

    @property
    def mounted(self) -> tuple[Path, ...]:
        """Folders of `python` that a container needs."""
        return _mounted(self.python)

    def environment(self, engine: EngineName = "trl") -> Environment:
        """The environment of a training engine; that of `trl` is also the evaluator's."""
        named = self.unsloth if engine == "unsloth" else self
        image = named.image or self.image
        if named.image_python:
            return Environment(named.image_python, (), image)
        return Environment(str(named.python), _mounted(named.python), image)

    def training(self, engine: EngineName) -> Environment:
        """The environment in which an engine trains, with that of the executor on top."""
        if self.forge.executor == "local":
            return self.environment(engine)
        mounted = dict.fromkeys((*_mounted(self.forge.python), *self.mounted))
        return Environment(str(self.forge.python), tuple(mounted), self.image)


def _mounted(python: Path) -> tuple[Path, ...]:
    """The environment, and the Python it was made from where that is not the system's."""
    made_from = python.resolve().parents[1]
    return (python.parents[1], *([] if made_from == Path("/usr") else [made_from]))


class DockerConfig(Frozen):
    host: str = Field("unix:///var/run/docker.sock", description="The engine's socket; Podman's does too.")
    installation: Name = Field(
        "soulforge", description="Name of this installation on the engine: prefix and label of its containers."
    )
    job_user: str = Field(
        "65532:65532",
        pattern=r"^[1-9]\d{0,8}:[1-9]\d{0,8}$",
        description="uid:gid of the jobs where root runs the services; otherwise they run as the services do.",
    )


class PruneConfig(Frozen):
    """Ages in days from which `soulforge prune` removes what nothing needs."""

    outbox_days: Days = Field(7, description="Age of a message in an outbox since it was published.")
    errors_days: Days = Field(7, description="Age of the errors of a ritual since the ritual ended.")
    checkpoints_days: Days = Field(1, description="Age of a training run's checkpoints since its ritual ended.")
    runs_days: Days = Field(30, description="Age of the runs of a ritual since it ended.")
    banished_days: Days = Field(90, description="Age of the runs of a ritual since its adapter was banished.")
    manifests_days: Days = Field(30, description="Age of manifests and holdouts since their last use.")


class RuntimeConfig(Frozen):
    """How the services run."""

    lease_ttl_s: float = Field(
        60.0, gt=0, description="Life of an unrenewed lease, in seconds of the database's clock."
    )
    max_errors: int = Field(
        10,
        ge=1,
        description="Errors in a row after which a ritual that cannot go on ends, instead of being tried again.",
    )
    min_free: Size = Field(
        ByteSize(2 * GIB), ge=0, description="Free disk space of the home below which no ritual takes the anvil."
    )
    reconcile_s: float = Field(3.0, gt=0, description="Seconds between two passes of a service's reconciler.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe level logged.")
