"""The faults of a run and when they come: a function of its length and seed, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from deploy.services import SERVICES


class Kind(StrEnum):
    """What goes wrong."""

    KILL_SERVICE = "kill -9 of a service"
    KILL_SERVICES = "kill -9 of all services"
    KILL_NATS = "kill -9 of nats-server"
    KILL_POSTGRES = "kill -9 of PostgreSQL"
    WIPE_JETSTREAM = "JetStream is wiped"
    STOP_SERVICE = "SIGSTOP of a service"
    STOP_OWNER = "SIGSTOP of a long job's service beyond its lease"
    STALL_NATS = "NATS is reached by nothing"
    CUT_NATS = "connections to NATS break"
    STALL_POSTGRES = "PostgreSQL is reached by nothing"
    CUT_POSTGRES = "connections to PostgreSQL break"
    READ_ONLY = "PostgreSQL is read-only"
    STARVED = "PostgreSQL has no connection left"
    CLOCK = "the database's clock steps by an hour, as leases see it"
    KILL_SHIM = "kill -9 of a job's shim"
    KILL_PAYLOAD = "kill -9 of a job"
    KILL_RUNE = "kill -9 of the rune"
    POISON = "a poisoned message"
    CANCEL = "a ritual is cancelled"


#: How often a kind is drawn, and how long it lasts at most, in seconds; 0: it is over at once.
WEIGHTS: dict[Kind, tuple[int, float]] = {
    Kind.KILL_SERVICE: (7, 0),
    Kind.KILL_SERVICES: (1, 0),
    Kind.KILL_NATS: (3, 0),
    Kind.KILL_POSTGRES: (2, 0),
    Kind.WIPE_JETSTREAM: (2, 0),
    Kind.STOP_SERVICE: (4, 10),
    Kind.STOP_OWNER: (3, 0),
    Kind.STALL_NATS: (3, 6),
    Kind.CUT_NATS: (4, 3),
    Kind.STALL_POSTGRES: (3, 6),
    Kind.CUT_POSTGRES: (4, 3),
    Kind.READ_ONLY: (3, 4),
    Kind.STARVED: (2, 4),
    Kind.CLOCK: (3, 0),
    Kind.KILL_SHIM: (4, 0),
    Kind.KILL_PAYLOAD: (4, 0),
    Kind.KILL_RUNE: (4, 0),
    Kind.POISON: (12, 0),
    Kind.CANCEL: (7, 0),
}
STORM_S, CALM_S = 12.0, 18.0
GAP_S = 0.65  #: mean pause between two faults of a storm
#: A rune that fails waits 1, 2, 4 … 60 s before it starts again, and its failures add up over ten minutes.
MOST_RUNE_KILLS = 5


@dataclass(frozen=True)
class Fault:
    """A fault at a second of the run. `service`: what it meets where it meets one; `number` chooses among the rest."""

    at_s: float
    kind: Kind
    service: str
    seconds: float
    number: int


def plan(seconds: float, seed: int, kinds: Collection[Kind] = tuple(Kind)) -> list[Fault]:
    """Storms of faults of these kinds with calms between them: a ritual must get on, too."""
    weights = {kind: weight for kind, (weight, _) in WEIGHTS.items() if kind in kinds}
    draw = random.Random(seed)
    faults: list[Fault] = []
    at_s = 0.0
    while at_s < seconds:
        at_s += draw.expovariate(1 / GAP_S)
        if at_s % (STORM_S + CALM_S) > STORM_S:
            at_s = (at_s // (STORM_S + CALM_S) + 1) * (STORM_S + CALM_S)
        kind = draw.choices(list(weights), list(weights.values()))[0]
        if kind is Kind.KILL_RUNE and sum(fault.kind is kind for fault in faults) >= MOST_RUNE_KILLS:
            kind = Kind.KILL_PAYLOAD
        longest_s = WEIGHTS[kind][1]
        lasts_s = draw.uniform(1.0, longest_s) if longest_s else 0.0
        faults.append(Fault(round(at_s, 2), kind, draw.choice(SERVICES), round(lasts_s, 2), draw.randrange(1 << 30)))
    return [fault for fault in faults if fault.at_s < seconds]
