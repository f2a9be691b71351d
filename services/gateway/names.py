"""Names of models: what a client may ask for, and which model of an engine answers it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.gateway.errors import RETRY_AFTER_S, Refusal

if TYPE_CHECKING:
    from services.gateway.table import Table, Version

SHOWN = 10


@dataclass(frozen=True)
class Target:
    """What answers a request: `model` is the name that an engine knows; `persona` is None for a base.

    `wanted`: the owner wants it served, so that an engine which lacks it will have it soon.
    """

    model: str
    persona: str | None = None
    ritual: UUID | None = None
    wanted: bool = True

    @property
    def served(self) -> str:
        """The persona or the base, for metrics."""
        return self.persona or self.model


def resolve(table: Table, bases: Collection[str], asked: str) -> Target:
    """Find what `asked` stands for now: a base, a persona's serving version, or a pinned version. Raises Refusal."""
    if asked in bases:
        return Target(asked)
    if persona := table.personas.get(asked):
        if persona.version is None or (version := table.versions.get(persona.version)) is None:
            raise Refusal(
                503, "persona_unserved", f"nothing serves for {asked}: {persona.trouble}", retry_after_s=RETRY_AFTER_S
            )
        return _target(version, wanted=True)
    if version := table.versions.get(asked):
        serves = table.personas.get(version.persona)
        if version.trouble:
            raise Refusal(409, "version_unserved", f"{asked} does not serve: {version.trouble}")
        return _target(version, wanted=serves is not None and serves.version == asked)
    if not table.read_at:
        raise Refusal(
            503, "no_table", "the gateway has not read yet which personas there are", retry_after_s=RETRY_AFTER_S
        )
    raise Refusal(404, "model_not_found", f"there is no model {asked[:100]!r}; {_known(table, bases)}")


def unloaded(target: Target, answering: bool) -> Refusal:
    """Why no engine has a model that may serve. `answering`: an engine of its base answers."""
    if answering and not target.wanted:
        return Refusal(
            409, "version_not_loaded", f"{target.model} is in the Crypt, but loaded by no engine: it does not serve"
        )
    why = (
        "no engine has loaded it yet"
        if answering
        else "its engine does not answer: it starts, or a ritual holds its anvil"
    )
    return Refusal(503, "engine_away", f"{target.model} cannot answer now: {why}", retry_after_s=RETRY_AFTER_S)


def list_cards(
    table: Table, bases: Collection[str], loaded: Collection[str], base_of: Callable[[str], str]
) -> Iterator[dict[str, Any]]:
    """Every model in OpenAI's form. `loaded`: the models that an engine has; `base_of`: the base of a persona."""
    for base in sorted(bases):
        yield _card(base, base, None, None, kind="base", loaded=base in loaded)
    for name, persona in sorted(table.personas.items()):
        version = table.versions.get(persona.version or "")
        yield _card(
            name,
            version.name if version else name,
            base_of(name),
            version,
            kind="persona",
            loaded=persona.version in loaded,
            trouble=persona.trouble,
        )
    serving = {persona.version for persona in table.personas.values()}
    for version in sorted(table.versions.values(), key=lambda found: (found.persona, found.registered_at)):
        yield _card(
            version.name,
            version.adapter,
            base_of(version.persona),
            version,
            kind="version",
            loaded=version.name in loaded,
            serves=version.name in serving,
            trouble=version.trouble,
        )


def _card(name: str, root: str, parent: str | None, version: Version | None, **ours: Any) -> dict[str, Any]:
    """One model. `root` is what answers: a version, an adapter's digest, or the base itself; `parent` is the base."""
    if version:
        ours |= {"persona": version.persona, "ritual": str(version.ritual)}
    created = int(version.registered_at.timestamp()) if version else 0
    card = {"id": name, "object": "model", "created": created, "owned_by": "soulforge", "root": root, "parent": parent}
    return {**card, "soulforge": ours}


def _target(version: Version, wanted: bool) -> Target:
    return Target(version.name, version.persona, version.ritual, wanted)


def _known(table: Table, bases: Collection[str]) -> str:
    names = [*sorted(table.personas), *sorted(bases)]
    more = ", … (GET /v1/models lists all)" if len(names) > SHOWN else ""
    return f"these answer: {', '.join(names[:SHOWN])}{more}"
