"""The tables of `soulforge.toml`: anvils, runes, covens, queues, and the whole file. Times in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import AfterValidator, ByteSize, Field

from shared.config.ports import assign
from shared.config.recipe import load_recipe, with_overrides
from shared.config.settings import PROJECT, check_database_url
from shared.config.tables import (
    EMBEDDED_BASE,
    MIB,
    BaseConfig,
    BaseName,
    DockerConfig,
    Folder,
    JobsConfig,
    Name,
    Persona,
    PersonaConfig,
    PruneConfig,
    RuntimeConfig,
    Section,
    Size,
)
from shared.config.tipping import TippingConfig
from shared.contracts.frozen import Frozen

if TYPE_CHECKING:
    from shared.config.recipe import Recipe
    from shared.config.settings import Settings
    from shared.contracts.intent import RecipeOverrides

S = TypeVar("S", bound=Section)


DatabaseUrl = Annotated[str, AfterValidator(check_database_url)]
Device = Annotated[int, Field(ge=0)]


class AnvilConfig(Frozen):
    """A set of devices that is leased as one."""

    accelerator: Literal["cpu", "nvml"] = Field(
        "cpu", description="Where memory is measured: RSS of the runes, or NVML."
    )
    devices: tuple[Device, ...] = Field((0,), min_length=1, description="NVML indices of the GPUs.")
    free_below: Size = Field(ByteSize(256 * MIB), gt=0, description="Used memory under which the anvil is free.")
    free_within_s: float = Field(20.0, gt=0, description="Time the memory may take to come free after the stop.")


class RuneConfig(Frozen):
    """One inference engine. Without `command` it is vLLM as the embedded default starts it."""

    driver: Literal["process", "docker"] = "process"
    image: str | None = Field(
        None, description="Image of a docker rune; it is created once, by `soulforge runes create`."
    )
    command: tuple[str, ...] = Field(
        (), description="What to run instead of vLLM; `{socket}`, or `{host}` and `{port}`, are filled in."
    )
    python: str | None = Field(
        None, description="Interpreter with vLLM, of the image with `docker`; default: that of the jobs."
    )
    env: dict[str, str] = Field(default_factory=dict)
    port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Of a `command` without `{socket}`. Default: the rune's place in Soulforge's row of ports.",
    )
    base: BaseName | None = Field(None, description="Base that it serves; default: the embedded one.")
    max_loras: int = Field(4, ge=1, description="Adapters that may answer in one batch.")
    max_lora_rank: int = Field(16, ge=1, description="Largest rank it accepts.")
    max_model_len: int = Field(2048, ge=256, description="Longest request in tokens.")
    max_num_seqs: int = Field(16, ge=1, description="Requests that run at once.")
    kv_cache_gib: int = Field(1, ge=1, description="Memory of the key-value cache on a CPU, in GiB.")
    arguments: tuple[str, ...] = Field((), description="More words for vLLM's command line.")
    health: str = Field("/health", pattern="^/", description="Path that answers 200 when it can work.")
    start_within_s: float = Field(300.0, gt=0, description="Time it may take until it answers.")
    evacuation: Literal["stop", "sleep"] = Field("stop", description="`sleep` keeps the process; CUDA only.")
    sleep_level: Literal[1, 2] = Field(1, description="vLLM's level: 1 keeps weights in main memory, 2 drops them.")
    grace_s: float = Field(
        60.0, ge=0, description="Time that requests under way have to finish before they are aborted."
    )
    stop_grace_s: float = Field(15.0, gt=0, description="Time between SIGTERM and SIGKILL.")
    order: int = Field(0, description="Lower ones start first and stop last.")

    @property
    def base_name(self) -> str | None:
        """The base that it serves; a foreign command that takes no adapters needs none."""
        return self.base or (EMBEDDED_BASE if self.takes_adapters else None)

    @property
    def listens_on_socket(self) -> bool:
        """Whether it listens on a Unix socket, which only Soulforge reaches: a foreign command declares it by `{socket}`."""
        return not self.command or any("{socket}" in word for word in self.command)

    @property
    def takes_adapters(self) -> bool:
        """Whether the registry may load adapters into it: a foreign command declares it by setting `max_loras`."""
        return not self.command or "max_loras" in self.model_fields_set


class CovenConfig(Frozen):
    """Runes that share an anvil, and the queues whose workers use it."""

    anvil: Name
    runes: tuple[Name, ...] = Field(min_length=1)
    queues: tuple[Name, ...] = ()


class SaqConfig(Frozen):
    """SAQ's queues in PostgreSQL."""

    driver: Literal["saq"]
    names: tuple[str, ...] = Field(min_length=1, description="Names of the SAQ queues that use the anvil.")
    database: DatabaseUrl | None = Field(
        None, description="URL of their database, by TLS or by its socket; default: Soulforge's own."
    )
    schema_name: str = Field("queue", alias="schema", pattern=r"^[a-z_][a-z0-9_]*$")
    grace_s: float = Field(60.0, ge=0, description="Time that active jobs have to finish.")


class BusConfig(Frozen):
    """Workers that pause when they are asked on the bus, and acknowledge it."""

    driver: Literal["bus"]
    workers: tuple[str, ...] = Field(min_length=1, description="Names of the workers that must acknowledge.")
    grace_s: float = Field(60.0, ge=0, description="Time the workers have to finish and acknowledge.")


QueueConfig = Annotated[SaqConfig | BusConfig, Field(discriminator="driver")]


class Configuration(Frozen):
    """A whole `soulforge.toml`; `load` adds the tables of the services, which `section` returns."""

    forge: Name = Field("anvil0", description="The anvil on which training takes place.")
    suites: Folder = Field(
        PROJECT / "services/verifier/suites",
        description="Folder of the benchmarks: adapters are evaluated on them, and karma with their items is not trained on.",
    )
    recipes: Folder | None = Field(
        None, description="Folder of your own recipes, as NAME.toml; one with a shipped recipe's name takes its place."
    )
    anvils: dict[Name, AnvilConfig]
    runes: dict[Name, RuneConfig]
    covens: dict[Name, CovenConfig]
    queues: dict[Name, QueueConfig] = Field(default_factory=dict)
    bases: dict[BaseName, BaseConfig] = Field(default_factory=dict)
    personas: dict[Persona, PersonaConfig] = Field(default_factory=dict)
    tipping: TippingConfig = TippingConfig()
    jobs: JobsConfig = JobsConfig()
    docker: DockerConfig = DockerConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    prune: PruneConfig = PruneConfig()

    def section(self, kind: type[S]) -> S:
        """A service's table; its defaults where the file has none."""
        found = getattr(self, kind.table, None)
        return found if isinstance(found, kind) else kind()

    def runes_of(self, anvil: str) -> dict[str, RuneConfig]:
        """The runes of an anvil by name, in the order in which they start."""
        names = [name for coven in self.covens.values() if coven.anvil == anvil for name in coven.runes]
        return {name: self.runes[name] for name in sorted(names, key=lambda name: (self.runes[name].order, name))}

    def queues_of(self, anvil: str) -> dict[str, SaqConfig | BusConfig]:
        """The queues whose workers use an anvil, by name."""
        names = [name for coven in self.covens.values() if coven.anvil == anvil for name in coven.queues]
        return {name: self.queues[name] for name in dict.fromkeys(names)}

    def anvil_of(self, rune: str) -> str:
        """The anvil of a rune. Raises KeyError for an unknown one."""
        for coven in self.covens.values():
            if rune in coven.runes:
                return coven.anvil
        raise KeyError(rune)

    def serving_runes(self) -> dict[str, tuple[str, ...]]:
        """Base of the training anvil -> the runes of any anvil into which its adapters are loaded, the training anvil's first."""
        found: dict[str, tuple[str, ...]] = {}
        for anvil in (self.forge, *(name for name in self.anvils if name != self.forge)):
            for name, rune in self.runes_of(anvil).items():
                if rune.takes_adapters and (base := rune.base_name) and (base in found or anvil == self.forge):
                    found[base] = (*found.get(base, ()), name)
        return found

    def bases_in_use(self) -> tuple[str, ...]:
        """The bases that the runes serve."""
        return tuple(sorted({rune.base_name for rune in self.runes.values() if rune.base_name}))

    def serving_rune(self, persona: str | None = None) -> str:
        """The first rune that answers for a persona; without one, the first that takes adapters. `load` refuses a file without."""
        runes = self.serving_runes()
        return (runes[self.base_of(persona)] if persona else next(iter(runes.values())))[0]

    def base_of(self, persona: str | None = None) -> str:
        """The base on which a persona is trained; without one, that of the first rune that takes adapters."""
        return self.persona(persona).base or next(iter(self.serving_runes()))

    def persona(self, name: str | None) -> PersonaConfig:
        """What is decided for a persona; the defaults where the file has nothing about it."""
        return self.personas.get(name or "", PersonaConfig())

    def max_lora_rank(self, persona: str) -> int:
        """The largest rank of an adapter that every rune of the persona accepts."""
        return min(self.runes[name].max_lora_rank for name in self.serving_runes()[self.base_of(persona)])

    def recipe(self, name: str, persona: str, overrides: RecipeOverrides | None = None) -> Recipe:
        """The recipe of that name with what a ritual changes of it, if every rune of the persona accepts its adapter.

        Raises ConfigurationError.
        """
        return with_overrides(load_recipe(name, self.max_lora_rank(persona), self.recipes), overrides)

    def ports(self, settings: Settings) -> dict[str, int]:
        """The port of every rune that listens on one; one that finds no free port is missing, and `load` refuses the file."""
        wanted = {name: rune.port for name, rune in self.runes.items() if not rune.listens_on_socket}
        return assign(wanted, settings.port_base)

    def rune_url(self, settings: Settings, name: str | None = None) -> str:
        """The address of a rune, `unix:///…` or `http://…`; without a name, of the first that takes adapters."""
        name = name or self.serving_rune()
        if self.runes[name].listens_on_socket:
            return f"unix://{settings.engine_socket(name)}"
        return f"http://{settings.url_host}:{self.ports(settings)[name]}"


def embedded() -> Configuration:
    """The configuration without a file: one CPU anvil and one vLLM with the embedded base."""
    return Configuration(
        anvils={"anvil0": AnvilConfig()},
        runes={"rune": RuneConfig()},
        covens={"hearth": CovenConfig(anvil="anvil0", runes=("rune",))},
    )
