"""Make every awaited call of the services fail, and check that nothing stays stuck: `python -m tests.fuzz.run`.

Once: each call fails once with every kind of error, before and after it is made, many calls in one ritual. The ritual
must end, and inference must be back. For good: a call fails every time for one ritual; a ritual beside it must be
awakened all the same, and the first one must end, at the latest once the call works again. The order is that of a
seed; a share of the faults can be drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from uuid import UUID

import structlog

from tests.fuzz import instrument

instrument.install()

from shared.contracts.ritual import ENDS, State  # noqa: E402 - the services are rewritten from here on
from tests.fuzz import faults  # noqa: E402
from tests.fuzz.faults import Fault, Kind, Moment  # noqa: E402
from tests.fuzz.house import MAX_ERRORS, FuzzedHouse, fuzzed_house  # noqa: E402
from tests.support.servers import house  # noqa: E402

AT_ONCE = 6  # rituals beside each other
OWN = 8  # faults that meet one of them, in all of its stages
COMMON = 40  # faults that meet the services meanwhile
STOPS = 6  # faults that end a service meanwhile
TRIES = 2  # times that a fault is armed before it counts as missed
TIMES = MAX_ERRORS + 2  # of a fault that does not belong to one ritual
FOR_GOOD = 10**9
WITHIN_S = 60.0
LINGER_S = 3.0
WARM_UP = 3


@dataclass
class Outcome:
    """What a run found. `stuck` has a line for every ritual that broke a rule."""

    sites: int = 0
    reached: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    rituals: int = 0
    states: Counter[str] = field(default_factory=Counter)
    ended_meanwhile: int = 0  #: rituals that ended while a call still failed for them
    stuck: list[str] = field(default_factory=list)


class Fuzzer:
    def __init__(self, house: FuzzedHouse, seed: int, share: float) -> None:
        self.house, self.random, self.share = house, random.Random(seed), share
        self.outcome = Outcome()
        self._began = monotonic()

    async def warm_up(self) -> None:
        """Rituals without a fault: which calls are reached."""
        for _ in range(WARM_UP):
            await self._end([await self.house.intend()], [], awakened=True)
        self.outcome.sites, self.outcome.reached = len(faults.sites), len(faults.reached)
        self._show(f"{self.outcome.reached} of {self.outcome.sites} awaited calls are reached")

    async def once(self) -> None:
        """Every drawn fault fires once."""
        waiting = [
            Fault(site, kind, moment)
            for site in sorted(faults.reached)
            for kind in Kind
            for moment in Moment
            if self.random.random() < self.share
        ]
        self.random.shuffle(waiting)
        tries: Counter[int] = Counter()
        while waiting:
            batch = list(_batch(waiting))
            own = sum(faults.reached[fault.site] for fault in batch)
            await self._meet(batch, at_once=1 + max(1, -(-own // OWN)))
            for fault in batch:
                if not fault.fired:
                    tries[id(fault)] += 1
                    waiting += [fault] if tries[id(fault)] < TRIES else []
                    self.outcome.missed += tries[id(fault)] >= TRIES
            self._show(f"once: {len(waiting)} faults left")

    async def for_good(self) -> None:
        """Every drawn call fails every time for one ritual."""
        drawn = [site for site in sorted(faults.reached) if self.random.random() < self.share]
        kinds = [kind for kind in Kind if kind is not Kind.STOP]
        waiting = [Fault(site, self.random.choice(kinds), self.random.choice(list(Moment)), TIMES) for site in drawn]
        self.random.shuffle(waiting)
        while waiting:
            batch, waiting = waiting[: AT_ONCE - 1], waiting[AT_ONCE - 1 :]
            await self._meet(batch, at_once=len(batch) + 1)
            self._show(f"for good: {len(waiting)} calls left")

    async def _meet(self, batch: list[Fault], at_once: int) -> None:
        """Let faults meet rituals; those of the work on one ritual meet one each, the last ritual none of them."""
        rituals = [await self.house.intend() for _ in range(at_once)]
        own = [fault for fault in batch if faults.reached[fault.site]]
        for place, fault in enumerate(own):
            fault.ritual = str(rituals[place % (at_once - 1)])
            fault.times = FOR_GOOD if fault.times > 1 else 1
        faults.arm(*batch)
        # Where all faults belong to other rituals, this one must not notice them.
        await self._end(rituals[-1:], batch, awakened=len(own) == len(batch))
        for ritual in rituals[:-1]:
            self.outcome.ended_meanwhile += (await self.house.ended(ritual, LINGER_S)).state in ENDS
        faults.disarm()
        await self._end(rituals[:-1], batch)
        for fault in batch:
            if fault.fired:
                self.outcome.fired[f"{fault.kind} {fault.moment}"] += 1

    async def _end(self, rituals: list[UUID], batch: list[Fault], awakened: bool = False) -> None:
        """Wait for the end of rituals; one that does not come, or is not the right one, is an outcome."""
        for ritual in rituals:
            found = await self.house.ended(ritual, WITHIN_S)
            met = "; ".join(str(fault) for fault in batch if fault.fired) or "no fault"
            self.outcome.rituals += 1
            self.outcome.states[found.state] += 1
            if found.state not in ENDS or not await self.house.serves():
                left = "" if await self.house.serves() else "; inference is not back"
                self._stuck(f"a ritual is {found.state} after {WITHIN_S:.0f} s{left}: {met}")
                faults.disarm()
                await self.house.ended(ritual, WITHIN_S)
            elif awakened and found.state is not State.AWAKENED:
                self._stuck(f"a ritual that no fault was meant for is {found.state}: {met}")

    def _stuck(self, text: str) -> None:
        self.outcome.stuck.append(text)
        print(f"STUCK {text}", flush=True)

    def _show(self, text: str) -> None:
        print(f"{monotonic() - self._began:5.0f} s  {self.outcome.rituals} rituals, {text}", flush=True)


def _batch(waiting: list[Fault]) -> Iterator[Fault]:
    """Take faults for a few rituals off the list: each site once, few that end a service."""
    sites: set[str] = set()
    left = {"own": OWN * (AT_ONCE - 1), "common": COMMON, "stop": STOPS}
    for fault in list(waiting):
        place = "stop" if fault.kind is Kind.STOP else "own" if faults.reached[fault.site] else "common"
        if left[place] and fault.site not in sites:
            left[place] -= 1
            sites.add(fault.site)
            waiting.remove(fault)
            yield fault


async def fuzz(seed: int, share: float) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="soulforge-fuzz-") as folder:
        async with house() as servers, fuzzed_house(servers, Path(folder)) as fuzzed:
            fuzzer = Fuzzer(fuzzed, seed, share)
            await fuzzer.warm_up()
            await fuzzer.once()
            await fuzzer.for_good()
            fuzzer.outcome.stuck += [f"the {name} did not end when it was stopped" for name in fuzzed.slow_ends]
            return fuzzer.outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="share of the faults that is drawn")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    outcome = asyncio.run(fuzz(given.seed, given.share))
    summary = {**vars(outcome), "seed": given.seed, "share": given.share, "faults": sum(outcome.fired.values())}
    print(json.dumps(summary, indent=2))
    return 1 if outcome.stuck else 0


if __name__ == "__main__":
    raise SystemExit(main())
