"""What may be decided about a persona's versions, and what its aliases are after that; without I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from shared.contracts.registry import Action

if TYPE_CHECKING:
    from datetime import datetime

    from shared.contracts.registry import AdapterDecide
    from shared.contracts.verify import ChampionEvidence


@dataclass(frozen=True)
class Aliases:
    """The aliases of a persona; `ritual` waits until `until` for the decision about the candidate.

    `approved` is the decision to promote the candidate as soon as it is loaded; `held`: why nothing is promoted by policy.
    """

    persona: str
    champion: str | None = None
    previous: str | None = None
    candidate: str | None = None
    ritual: UUID | None = None
    until: datetime | None = None
    approved: int | None = None
    held: Literal["pin", "roll_back"] | None = None

    def without_candidate(self) -> Aliases:
        return replace(self, candidate=None, ritual=None, until=None, approved=None)

    def with_candidate(self, version: str, ritual: UUID | None = None, until: datetime | None = None) -> Aliases:
        return replace(self, candidate=version, ritual=ritual, until=until, approved=None)


@dataclass(frozen=True)
class Standing:
    """What speaks for and against a version."""

    name: str
    persona: str
    withdrawn: str | None = None  #: why its digest may not answer
    overridden: bool = False  #: its digest was banished or withdrawn, and promoted all the same
    set_aside: bool = False  #: the last decision about it was a roll back, a rejection or a retirement
    recalled: bool = False  #: karma of it was revoked, and the policy is not applied yet
    loaded: bool = False  #: some rune has it loaded, and it was proven to be what answers
    fault: str | None = None

    @property
    def may_serve(self) -> bool:
        """Whether it answers requests once it is the champion."""
        return not (self.withdrawn or self.fault)

    @property
    def barred(self) -> str | None:
        """Why it is never promoted without an override."""
        if self.withdrawn:
            return f"{self.name} was withdrawn ({self.withdrawn})"
        return f"the adapter of {self.name} was banished or withdrawn before" if self.overridden else None


class Fate(StrEnum):
    """What becomes of a version that passed the gate, is loaded and proven."""

    PROMOTE = "promote"
    PROPOSE = "propose"  #: its owner decides
    KEEP_AS_CANDIDATE = "keep as candidate"
    KEEP = "keep"


def choose_fate(
    promotion: Literal["automatic", "approval"],
    now: Aliases,
    version: Standing,
    compared: ChampionEvidence,
    champion: Standing | None,
) -> tuple[Fate, str]:
    """What becomes of a version by policy, and why. `compared`: its verdict's comparison; `champion`: that of now."""
    if barred := version.barred:
        return Fate.KEEP, f"{barred}: it is promoted by an override only"
    if version.name == now.champion:
        return Fate.PROMOTE, "it is the champion already"
    if promotion == "approval":
        return Fate.PROPOSE, f"versions of {now.persona} are promoted by approval"
    if version.set_aside:
        return Fate.KEEP, f"{version.name} was rolled back or rejected: it is not promoted again by itself"
    if now.held:
        held = "is pinned to" if now.held == "pin" else "was rolled back to"
        return Fate.KEEP_AS_CANDIDATE, f"{now.persona} {held} {now.champion}: it is a candidate until that is lifted"
    if champion is not None and champion.may_serve and (why := _keeps_champion(compared, champion.name)):
        return Fate.KEEP_AS_CANDIDATE, why
    return Fate.PROMOTE, "it passed the gate"


def _keeps_champion(compared: ChampionEvidence, champion: str) -> str | None:
    """Why a champion that serves is not replaced; None where the version is non-inferior to it."""
    if compared.champion is None or compared.champion.version != champion or not compared.champion.serves:
        return f"it was not compared with {champion}, which serves by now: it is a candidate"
    return None if compared.replaced else compared.reason


def find_refusal(asked: AdapterDecide, now: Aliases, version: Standing | None, before: Standing | None) -> str | None:
    """Why a decision cannot be made now; None where it can. `before` is the standing of the previous version."""
    if now.champion != asked.champion:
        return f"the champion of {now.persona} is {now.champion} by now, not {asked.champion}: look again, then decide"
    if version and version.persona != now.persona:
        return f"{version.name} is a version of {version.persona}, not of {now.persona}"
    match asked.action:
        case Action.PROMOTE if version:
            return _refuse_promotion(asked, now, version)
        case Action.REJECT if version and now.candidate != version.name:
            return f"{version.name} is no candidate of {now.persona}"
        case Action.ROLL_BACK if before is None:
            return f"{now.persona} has no version before {now.champion}: promote one by name"
        case Action.ROLL_BACK if before and not before.may_serve:
            return f"{before.name} cannot serve: {before.fault or f'it was withdrawn ({before.withdrawn})'}"
        case Action.ROLL_BACK | Action.PIN if version and version.name != now.champion:
            return f"{version.name} is not the champion of {now.persona}: promote it first"
        case Action.PIN if now.champion is None:
            return f"{now.persona} has no champion"
        case Action.UNPIN if now.held is None:
            return f"{now.persona} is neither pinned nor rolled back"
    return None


def _refuse_promotion(asked: AdapterDecide, now: Aliases, version: Standing) -> str | None:
    if version.recalled:
        return f"the recall of karma that {version.name} was trained on is not acted on yet: try again in a moment"
    if version.barred and not asked.override:
        return f"{version.barred}: only an override with a reason promotes it"
    if version.name == now.champion:  # an override lets it answer again, also where only the gateway withdrew it
        return None if asked.override else f"{version.name} is the champion of {now.persona} already"
    if now.held == "pin":
        return f"{now.persona} is pinned to {now.champion}: unpin it first"
    return None


def promoted(now: Aliases, version: str, champion_serves: bool = True) -> Aliases:
    """The aliases once `version` is the champion. A champion that cannot serve takes no place of one that can."""
    stays = now.champion == version or (now.previous and now.previous != version and not champion_serves)
    previous = now.previous if stays else now.champion
    after = now.without_candidate() if now.candidate == version else replace(now, approved=None)
    held = None if now.held == "roll_back" and now.champion != version else now.held
    return replace(after, champion=version, previous=previous, held=held)


def rolled_back(now: Aliases) -> Aliases:
    """The aliases once the previous version is the champion again; that one takes no place of a version any more."""
    return replace(now, champion=now.previous, previous=None, approved=None, held="roll_back")


def pinned(now: Aliases) -> Aliases:
    """The aliases once the champion is pinned; an earlier approval of the candidate does not move it any more."""
    return replace(now, held="pin", approved=None)


def withdrawn(now: Aliases, version: str, previous_is_clean: bool) -> Aliases:
    """The aliases without `version`; a champion's place goes to the previous version where that is clean."""
    after = now.without_candidate() if now.candidate == version else now
    if now.champion == version:
        held = None if now.held == "pin" else now.held
        champion = now.previous if previous_is_clean else None
        return replace(after, champion=champion, previous=None, approved=None, held=held)
    return replace(after, previous=None) if now.previous == version else after
