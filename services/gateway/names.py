"""Names of models: what a client may ask for, and which model of an engine answers it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.gateway.errors import RETRY_AFTER_S, Refusal
from shared.asgi.replies import REFUSED

if TYPE_CHECKING:
    from services.gateway.closed import Closed
    from services.gateway.table import Persona, Table, Version

SHOWN = 10
WITHDRAWN = "version_withdrawn"
FindWithdrawn = Callable[["Version"], str | None]  #: why a version may not answer


def _find_withdrawn(version: Version) -> str | None:
    return version.withdrawn


@dataclass(frozen=True)
class Target:
    """What answers a request: `model` is the name that an engine knows; `persona` is None for a base.

    `wanted`: the owner wants it served, so that an engine which lacks it will have it soon. `pinned`: it was asked for by
    the name of a version.
    """

    model: str
    persona: str | None = None
    ritual: UUID | None = None
    wanted: bool = True
    adapter: str | None = None
    pinned: bool = False

    @property
    def served(self) -> str:
        """The persona or the base, for metrics."""
        return self.persona or self.model


def resolve(
    table: Table, bases: Collection[str], asked: str, find_withdrawn: FindWithdrawn = _find_withdrawn
) -> Target:
    """Find what `asked` stands for now: a base, a persona's serving version, or a pinned version. Raises Refusal."""
    if asked in bases:
        return Target(asked)
    if persona := table.personas.get(asked):
        if version := find_serving(table, persona, find_withdrawn):
            return _target(version)
        raise _unserved(table, asked, persona, find_withdrawn)
    if version := table.versions.get(asked):
        serves = table.personas.get(version.persona)
        if why := find_withdrawn(version):
            raise Refusal(403, WITHDRAWN, f"{asked} was withdrawn: {why}")
        if version.trouble:
            raise Refusal(409, "version_unserved", f"{asked} does not serve: {version.trouble}")
        return _target(version, wanted=serves is not None and serves.version == asked, pinned=True)
    if not table.read_at:
        raise Refusal(
            503, "no_table", "the gateway has not read yet which personas there are", retry_after_s=RETRY_AFTER_S
        )
    raise Refusal(404, "model_not_found", f"there is no model {asked[:100]!r}; {_known(table, bases)}", param="model")


def persona_of(asked: str, bases: Collection[str]) -> str | None:
    """The persona that a name is of, whether there is one or not; None for a base."""
    return None if asked in bases else asked.partition("@")[0]


def find_serving(table: Table, persona: Persona, find_withdrawn: FindWithdrawn) -> Version | None:
    """What answers for a persona now: its version or, where that was withdrawn, the one before."""
    version = table.versions.get(persona.version or "")
    if version is None or not find_withdrawn(version):
        return version
    previous = table.versions.get(persona.previous or "")
    return previous if previous and not previous.trouble and not find_withdrawn(previous) else None


def _unserved(table: Table, asked: str, persona: Persona, find_withdrawn: FindWithdrawn) -> Refusal:
    wanted = table.versions.get(persona.version or persona.wanted or "")
    if wanted and (why := find_withdrawn(wanted)):
        return Refusal(403, WITHDRAWN, f"nothing serves for {asked}: {wanted.name} was withdrawn: {why}")
    trouble = f"nothing serves for {asked}: {persona.trouble}"
    return Refusal(503, "persona_unserved", trouble, retry_after_s=RETRY_AFTER_S)


def unloaded(target: Target, answering: bool, closed: Closed | None = None) -> Refusal:
    """Why no engine can answer. `answering`: an open one of its base answers; `closed`: one of them is closed."""
    if closed:
        why = f"inference is closed since {closed.since:%Y-%m-%dT%H:%M:%SZ}: {closed.reason}"
        left_s = closed.left_s()
        return Refusal(503, REFUSED, f"{why}; ask again in {left_s:.0f} s", retry_after_s=left_s)
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
    table: Table,
    bases: Collection[str],
    loaded: Collection[str],
    base_of: Callable[[str], str],
    find_withdrawn: FindWithdrawn = _find_withdrawn,
) -> Iterator[dict[str, Any]]:
    """Every model in OpenAI's form. `loaded`: the models that an engine has; `base_of`: the base of a persona."""
    for base in sorted(bases):
        yield _card(base, base, None, None, kind="base", loaded=base in loaded)
    for name, persona in sorted(table.personas.items()):
        version = find_serving(table, persona, find_withdrawn)
        yield _card(
            name,
            version.name if version else name,
            base_of(name),
            version,
            kind="persona",
            loaded=version is not None and version.name in loaded,
            trouble=persona.trouble,
        )
    found = [find_serving(table, persona, find_withdrawn) for persona in table.personas.values()]
    serving = {version.name for version in found if version}
    for version in sorted(table.versions.values(), key=lambda found: (found.persona, found.registered_at)):
        yield _card(
            version.name,
            version.adapter,
            base_of(version.persona),
            version,
            kind="version",
            loaded=version.name in loaded,
            serves=version.name in serving,
            trouble=find_withdrawn(version) or version.trouble,
        )


def _card(name: str, root: str, parent: str | None, version: Version | None, **ours: Any) -> dict[str, Any]:
    """One model. `root` is what answers: a version, an adapter's digest, or the base itself; `parent` is the base."""
    if version:
        ours |= {"persona": version.persona, "ritual": str(version.ritual)}
    created = int(version.registered_at.timestamp()) if version else 0
    card = {"id": name, "object": "model", "created": created, "owned_by": "soulforge", "root": root, "parent": parent}
    return {**card, "soulforge": ours}


def _target(version: Version, wanted: bool = True, pinned: bool = False) -> Target:
    return Target(version.name, version.persona, version.ritual, wanted, version.adapter, pinned)


def _known(table: Table, bases: Collection[str]) -> str:
    names = [*sorted(table.personas), *sorted(bases)]
    more = ", … (GET /v1/models lists all)" if len(names) > SHOWN else ""
    return f"these answer: {', '.join(names[:SHOWN])}{more}"
