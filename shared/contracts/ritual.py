"""The states of a ritual and the one table of transitions: which fact leads from which state to which."""

from __future__ import annotations

from enum import StrEnum

from shared.contracts.evacuate import GpuEvacuated, GpuInterrupted, GpuRefused, GpuRestored
from shared.contracts.forge import AdapterFailed, AdapterForged
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import RitualCancelled
from shared.contracts.message import Fact
from shared.contracts.registry import AdapterAwakened, AdapterKept, AdapterProposed, AdapterRegistered
from shared.contracts.verify import AdapterBanished, AdapterVerified


class State(StrEnum):
    """A ritual's state: it follows from the last fact recorded about it."""

    INTENDED = "intended"  #: an intent was admitted; the harvester compiles the manifest
    HARVESTED = "harvested"  #: waits for the anvil
    EVACUATED = "evacuated"  #: holds the anvil; the forge trains
    FORGED = "forged"  #: holds the anvil; the verifier evaluates
    VERIFIED = "verified"  #: passed; the registry freezes the bundle while inference comes back
    REGISTERED = "registered"  #: in the Crypt; waits for inference to load it
    AWAITING_APPROVAL = "awaiting_approval"  #: loaded and proven; waits for its owner's decision
    AWAKENED = "awakened"  #: serves. End.
    KEPT = "kept"  #: good, and not promoted. End.
    REFUSED = "refused"  #: too little karma, or the anvil did not come free. End.
    FAILED = "failed"  #: an error that no retry mends. End.
    BANISHED = "banished"  #: the verdict was not a promotion. End.
    CANCELLED = "cancelled"  #: at its owner's request. End.


ENDS = frozenset({State.AWAKENED, State.KEPT, State.REFUSED, State.FAILED, State.BANISHED, State.CANCELLED})
HOLDS_ANVIL = frozenset({State.EVACUATED, State.FORGED})
NEEDS_ANVIL = HOLDS_ANVIL | {State.INTENDED, State.HARVESTED}  # what a pause still changes

# (state, fact) -> next state. Every pair that is not here leaves the ritual as it is: a late, repeated or
# reordered fact changes nothing.
TRANSITIONS: dict[tuple[State, type[Fact]], State] = {
    (State.INTENDED, KarmaHarvested): State.HARVESTED,
    (State.INTENDED, KarmaRefused): State.REFUSED,
    (State.INTENDED, AdapterFailed): State.FAILED,
    (State.INTENDED, RitualCancelled): State.CANCELLED,
    (State.HARVESTED, GpuEvacuated): State.EVACUATED,
    (State.HARVESTED, GpuRefused): State.REFUSED,
    (State.HARVESTED, AdapterFailed): State.FAILED,
    (State.HARVESTED, RitualCancelled): State.CANCELLED,
    (State.EVACUATED, AdapterForged): State.FORGED,
    (State.EVACUATED, AdapterFailed): State.FAILED,
    (State.EVACUATED, GpuInterrupted): State.HARVESTED,
    (State.EVACUATED, RitualCancelled): State.CANCELLED,
    (State.FORGED, AdapterVerified): State.VERIFIED,
    (State.FORGED, AdapterBanished): State.BANISHED,
    (State.FORGED, AdapterFailed): State.FAILED,
    (State.FORGED, GpuInterrupted): State.HARVESTED,
    (State.FORGED, RitualCancelled): State.CANCELLED,
    (State.VERIFIED, AdapterRegistered): State.REGISTERED,
    (State.VERIFIED, AdapterFailed): State.FAILED,
    (State.VERIFIED, RitualCancelled): State.CANCELLED,
    (State.REGISTERED, AdapterAwakened): State.AWAKENED,
    (State.REGISTERED, AdapterProposed): State.AWAITING_APPROVAL,
    (State.REGISTERED, AdapterKept): State.KEPT,
    (State.REGISTERED, AdapterFailed): State.FAILED,
    (State.REGISTERED, RitualCancelled): State.CANCELLED,
    (State.AWAITING_APPROVAL, AdapterAwakened): State.AWAKENED,
    (State.AWAITING_APPROVAL, AdapterKept): State.KEPT,
    (State.AWAITING_APPROVAL, AdapterFailed): State.FAILED,
    (State.AWAITING_APPROVAL, RitualCancelled): State.CANCELLED,
}

FACTS: tuple[type[Fact], ...] = (
    KarmaHarvested,
    KarmaRefused,
    GpuEvacuated,
    GpuRefused,
    GpuInterrupted,
    AdapterForged,
    AdapterFailed,
    AdapterVerified,
    AdapterBanished,
    GpuRestored,
    AdapterRegistered,
    AdapterProposed,
    AdapterAwakened,
    AdapterKept,
    RitualCancelled,
)


def leads_from(fact: type[Fact]) -> dict[State, State]:
    """The states that `fact` changes, each with the state it leads to. Empty for facts that only inform."""
    return {state: after for (state, candidate), after in TRANSITIONS.items() if candidate is fact}
