"""Which weights gave an answer: what the gateway reports of it, against what the registry proved of that engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from deploy.cli.errors import UserError

if TYPE_CHECKING:
    from deploy.cli.queries.ask import Answered
    from services.registry.views import PersonaAliases, Proof, RegisteredVersion

Alias = Literal["champion", "previous", "candidate"]
ALIASES: tuple[Alias, ...] = ("champion", "previous", "candidate")


class Compared(BaseModel):
    """One answer. `asked` is what was given, `model` the version or base; `evidence` is why it is proven, or why not."""

    asked: str
    model: str
    adapter: str | None
    ritual: str | None
    engine: str
    proven: bool
    evidence: str
    answer: str


def resolve(
    given: str, persona: str, versions: Sequence[RegisteredVersion], aliases: PersonaAliases | None
) -> RegisteredVersion | None:
    """The version that a word stands for; None for the base. Raises UserError where it is none, or several."""
    if given == "base":
        return None
    if given in ALIASES:
        wanted = getattr(aliases, given, None)
        found = [one for one in versions if one.name == wanted]
    else:
        digits = given.removeprefix(f"{persona}@").removeprefix("sha256:")
        found = [one for one in versions if digits and _has(one, digits)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{given!r} is the beginning of several: {', '.join(one.name for one in found)}")
    names = ", ".join(one.name for one in versions) or "none"
    raise UserError(f"persona {persona!r} has no version {given!r}; its versions: {names}")


def _has(version: RegisteredVersion, digits: str) -> bool:
    label = version.name.rpartition("@")[2]
    return label.startswith(digits) or version.adapter.removeprefix("sha256:").startswith(digits)


def judge(
    asked: str, version: RegisteredVersion | None, base: str, answer: Answered, proofs: Iterable[Proof]
) -> Compared:
    """Whether the answer is proven to be of the version that was asked, or of the base where that is None."""
    if version is None:
        proven = answer.adapter is None and answer.model == base
        evidence = "no adapter answered" if proven else f"{answer.adapter or answer.model} answered"
    else:
        proven, evidence = _judge(version, answer, proofs)
    return Compared(
        asked=asked,
        model=version.name if version else base,
        adapter=version.adapter if version else None,
        ritual=answer.ritual,
        engine=answer.engine or "unknown",
        proven=proven,
        evidence=evidence,
        answer=answer.text,
    )


def _judge(version: RegisteredVersion, answer: Answered, proofs: Iterable[Proof]) -> tuple[bool, str]:
    if (answer.adapter, answer.model, answer.ritual) != (version.name, version.name, str(version.ritual)):
        return False, f"{answer.adapter or answer.model} of ritual {answer.ritual} answered"
    proof = next((one for one in proofs if (one.rune, one.version) == (answer.engine, version.name)), None)
    if proof is None:
        return False, "the registry has no proof of it on this engine"
    prompts = f"{proof.probes} prompts at {proof.since.astimezone():%Y-%m-%d %H:%M:%S}"
    return (True, f"proven by {prompts}") if proof.proven else (False, f"{prompts} did not find it")
