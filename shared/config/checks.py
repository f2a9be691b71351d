"""Check what no single table can: that names are known and belong together. Each fault has its key and the reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, get_args

from shared.config.errors import ConfigurationError, Fault, nearest
from shared.config.ports import parts
from shared.config.recipe import Rank, load_recipe
from shared.config.tables import EMBEDDED_BASE

if TYPE_CHECKING:
    from shared.config.model import Configuration, RuneConfig
    from shared.config.settings import Settings
    from shared.config.tables import JobsConfig

SCHEMES = ("unix://", "tcp://", "ssh://")


def faults(configuration: Configuration, settings: Settings) -> list[Fault]:
    """Everything that is wrong, kind by kind; empty where the configuration can be used."""
    found = [
        *_forge(configuration),
        *_anvils(configuration),
        *_runes(configuration),
        *_covens(configuration),
        *_once(configuration),
        *_image(("jobs", "image"), configuration.jobs),
        *_of_an_image(configuration.jobs),
        *_docker(configuration),
        *_bases(configuration),
        *_personas(configuration),
        *_portal(configuration),
        *_recipes(configuration),
    ]
    if not _dangling(configuration):  # ports and bases of personas follow from the runes of each anvil
        found += _serving(configuration)
        found += _ports(configuration, settings)
    return found


def _forge(configuration: Configuration) -> Iterator[Fault]:
    if configuration.forge not in configuration.anvils:
        yield Fault(("forge",), _unknown("anvil", configuration.forge, configuration.anvils))


def _recipes(configuration: Configuration) -> Iterator[Fault]:
    """What is wrong with the owner's recipes, whatever rank the runes take."""
    if configuration.recipes is None:
        return
    if not configuration.recipes.is_dir():
        yield Fault(("recipes",), f"{configuration.recipes} is not a folder")
    for path in sorted(configuration.recipes.glob("*.toml")):
        try:
            load_recipe(path, max_rank=max(get_args(Rank)))
        except ConfigurationError as error:
            yield Fault(("recipes",), str(error))


def _anvils(configuration: Configuration) -> Iterator[Fault]:
    owners: dict[int, str] = {}
    used = {coven.anvil for coven in configuration.covens.values()}
    for name, anvil in configuration.anvils.items():
        if name not in used:
            yield Fault(("anvils", name), "no coven uses it: name it in one, or take it out")
        if anvil.accelerator == "cpu":
            if "devices" in anvil.model_fields_set:
                yield Fault(("anvils", name, "devices"), 'a CPU anvil has none: set accelerator = "nvml"')
            continue
        for place, device in enumerate(anvil.devices):
            if device in owners:
                reason = f'GPU {device} already belongs to anvil "{owners[device]}": anvils are leased apart'
                yield Fault(("anvils", name, "devices", place), reason)
            owners.setdefault(device, name)


def _runes(configuration: Configuration) -> Iterator[Fault]:
    cpu = {name for name, anvil in configuration.anvils.items() if anvil.accelerator == "cpu"}
    for name, rune in configuration.runes.items():
        place = ("runes", name)
        yield from _image((*place, "image"), rune)
        if rune.evacuation == "sleep" and _anvil(configuration, name) in cpu:
            yield Fault((*place, "evacuation"), "sleep frees nothing on a CPU anvil: use stop")
        if rune.command and rune.arguments:
            yield Fault((*place, "arguments"), "only vLLM gets them: put them into `command`")
        if rune.listens_on_socket and rune.port:
            reason = "it listens on a Unix socket, which only Soulforge reaches: take this out, clients use the gateway"
            yield Fault((*place, "port"), reason)
        if rune.listens_on_socket and any("{port}" in word for word in rune.command):
            yield Fault((*place, "command"), "it listens on {socket} or on {host} and {port}: name one of them")
        if not rune.command and rune.max_lora_rank not in get_args(Rank):
            ranks = ", ".join(map(str, get_args(Rank)))
            yield Fault((*place, "max_lora_rank"), f"vLLM takes {ranks}, not {rune.max_lora_rank}")


def _image(place: tuple[str, ...], part: RuneConfig | JobsConfig) -> Iterator[Fault]:
    if part.driver == "docker" and not part.image:
        yield Fault(place, 'is required with driver = "docker"')
    if part.driver == "process" and part.image:
        yield Fault(place, 'the process driver runs no image: set driver = "docker", or take this out')


def _of_an_image(jobs: JobsConfig) -> Iterator[Fault]:
    if jobs.driver != "process":
        return
    if jobs.image_python:
        yield Fault(("jobs", "image_python"), "the process driver runs no image: name the interpreter in jobs.python")
    for name in ("image", "image_python"):
        if getattr(jobs.unsloth, name):
            reason = "the process driver runs no image: name the interpreter in jobs.unsloth.python"
            yield Fault(("jobs", "unsloth", name), reason)


def _covens(configuration: Configuration) -> Iterator[Fault]:
    for name, coven in configuration.covens.items():
        if coven.anvil not in configuration.anvils:
            yield Fault(("covens", name, "anvil"), _unknown("anvil", coven.anvil, configuration.anvils))
        for place, rune in enumerate(coven.runes):
            if rune not in configuration.runes:
                yield Fault(("covens", name, "runes", place), _unknown("rune", rune, configuration.runes))
        for place, queue in enumerate(coven.queues):
            if queue not in configuration.queues:
                yield Fault(("covens", name, "queues", place), _unknown("queue", queue, configuration.queues))


def _once(configuration: Configuration) -> Iterator[Fault]:
    """Every rune is in one coven; every queue is named by one at least."""
    found: dict[str, list[str]] = defaultdict(list)
    queues = {queue for coven in configuration.covens.values() for queue in coven.queues}
    for name, coven in configuration.covens.items():
        for place, rune in enumerate(coven.runes):
            found[rune].append(name)
            if len(found[rune]) > 1:
                reason = f'rune "{rune}" is already in coven "{found[rune][0]}"; it can be in one only'
                yield Fault(("covens", name, "runes", place), reason)
    for rune in configuration.runes:
        if rune not in found:
            yield Fault(("runes", rune), "is in no coven: add it to the `runes` of one, or take it out")
    for queue in configuration.queues:
        if queue not in queues:
            yield Fault(("queues", queue), "no coven names it: add it to the `queues` of one, or take it out")


def _dangling(configuration: Configuration) -> bool:
    return any(name not in configuration.runes for coven in configuration.covens.values() for name in coven.runes)


def _bases(configuration: Configuration) -> Iterator[Fault]:
    """Every rune's base is declared, or the embedded one."""
    known = {EMBEDDED_BASE, *configuration.bases}
    for name, rune in configuration.runes.items():
        if rune.base and rune.base not in known:
            yield Fault(("runes", name, "base"), _unknown("base", rune.base, known))


def _personas(configuration: Configuration) -> Iterator[Fault]:
    """No persona has the name of a base: clients ask for both by name."""
    bases = {EMBEDDED_BASE, *configuration.bases}
    for persona in configuration.personas:
        if persona in bases:
            reason = "is the name of a base, which answers to it already: give the persona another name"
            yield Fault(("personas", persona), reason)


def _portal(configuration: Configuration) -> Iterator[Fault]:
    gateway = getattr(configuration, "gateway", None)  # the table of a service
    for persona, decided in configuration.personas.items():
        if decided.away == "portal" and gateway and gateway.portal is None:
            yield Fault(("personas", persona, "away"), "there is no portal: add [gateway.portal], or take this out")


def _serving(configuration: Configuration) -> Iterator[Fault]:
    """Some rune of the training anvil takes adapters, and one serves the base of every persona."""
    if configuration.forge not in configuration.anvils:
        return
    served = configuration.serving_runes()
    if not served:
        reason = "takes adapters: give it one without `command`, or with a stated `max_loras`"
        yield Fault(("forge",), f'no rune on "{configuration.forge}" {reason}')
    for persona, decided in configuration.personas.items():
        if served and decided.base and decided.base not in served:
            reason = f'no rune on "{configuration.forge}" serves the base "{decided.base}" and takes adapters; '
            yield Fault(("personas", persona, "base"), reason + nearest(decided.base, served))


def _ports(configuration: Configuration, settings: Settings) -> Iterator[Fault]:
    ports = configuration.ports(settings)
    others = {port: f"Soulforge's {part}" for port, part in parts(settings.port_base).items()}
    for name, rune in configuration.runes.items():
        place = ("runes", name, "port")
        if rune.listens_on_socket:
            continue
        if name not in ports:
            yield Fault(place, "Soulforge's row of ports is full: give this rune a port of its own")
        elif ports[name] in others:
            yield Fault(place, f"{ports[name]} is the port of {others[ports[name]]}")
        else:
            others[ports[name]] = f'rune "{name}"'


def _docker(configuration: Configuration) -> Iterator[Fault]:
    if not configuration.docker.host.startswith(SCHEMES):
        yield Fault(("docker", "host"), f"must start with one of {', '.join(SCHEMES)}")


def _anvil(configuration: Configuration, rune: str) -> str | None:
    try:
        return configuration.anvil_of(rune)
    except KeyError:
        return None


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    return f'there is no {kind} "{name}"; {nearest(name, known)}'
