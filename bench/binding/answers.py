"""In the jobs' environment: an adapter's probes, or how far it is from those of all: `… BASE ADAPTER OUTPUT [PROBES]`.

PROBES is a file with the probes of each adapter.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from shared.contracts.probe import Distance, Probe, distance, total
from shared.contracts.verify import Arm

COUNT = 12


class Asked(BaseModel):
    """The probes of an adapter, or its distance from each adapter by the probes of that, in the evaluator's engine."""

    probes: tuple[Probe, ...] = ()
    distances: tuple[Distance, ...] = ()


def main(base: Path, adapter: Path, output: Path, probes: Path | None = None) -> None:
    from services.verifier.evaluator.arms import load
    from services.verifier.evaluator.probe_answers import leads_of, measure
    from services.verifier.evaluator.probes import Answer

    arms, found = load(base, adapter, seed=0), Asked()
    if probes is None:
        found.probes = measure(arms, [Arm.BASE], COUNT, lambda _: None)
    else:
        of_all = TypeAdapter(list[list[Probe]]).validate_json(probes.read_bytes())
        flat = [Answer(probe.prompt, probe.tokens, probe.leads) for each in of_all for probe in each]
        leads = iter(leads_of(arms, Arm.CANDIDATE, flat))
        found.distances = tuple(total(distance(probe.leads, next(leads)) for probe in each) for each in of_all)
    output.write_text(found.model_dump_json())


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
