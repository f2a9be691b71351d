"""Measure and print: `python -m bench.handover [process|docker …] [--rounds N]`; one round is the short form.

Each round measures bare (stop the container, start it, wait for the first answer) and ours (a ritual leases the anvil
and releases it at once: from its request to the end of the evacuation, and from the end of its work to the first
answer). Nothing is trained in between. The ratio is that of the medians; the engine is the installation's vLLM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from bench.handover.places import Place, docker_place, process_place
from shared.config.settings import PROJECT
from shared.config.tables import EMBEDDED_BASE
from shared.drivers.inference.port import InferenceError, PromptMessage
from tests.support.orchestrated import Orchestrated, orchestrated
from tests.support.servers import house

MODELS = PROJECT / ".cache" / "models"
UP_S = 400
POLL_S = 0.05
ASKED = (PromptMessage(role="user", content="The smith"),)
PLACES = {"process": process_place, "docker": docker_place}


async def measure(name: str, rounds: int) -> dict[str, Any]:
    async with house() as one:
        with tempfile.TemporaryDirectory(prefix="soulforge-bench-") as folder:
            async with orchestrated(one.settings, Path(folder), MODELS) as ours, PLACES[name](ours) as place:
                await ours.start()
                await ours.eventually(ours.serves, UP_S, "vLLM serves")
                bare, whole = [], []
                for number in range(rounds):
                    whole.append(await hand_over(ours, number))
                    bare.append(await bare_restart(ours, place))
                    log(f"{name} round {number + 1}: bare {bare[-1]:.2f} s, ours {whole[-1]:.2f} s")
                steps = await seconds_of_steps(ours)
    ratio = statistics.median(whole) / statistics.median(bare)
    return {
        "driver": name,
        "rounds": rounds,
        "bare_s": [round(seconds, 2) for seconds in bare],
        "ours_s": [round(seconds, 2) for seconds in whole],
        "ratio": round(ratio, 3),
        "steps_s": steps,
    }


async def seconds_of_steps(ours: Orchestrated) -> dict[str, float]:
    """The seconds of each step, as the median of the rounds."""
    rows = await ours.pool.fetch(
        "SELECT step, percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - began_at)) AS s, min(began_at) "
        "FROM orchestrator.hand_over_step GROUP BY step ORDER BY 3"
    )
    return {row["step"]: round(row["s"], 2) for row in rows}


async def hand_over(ours: Orchestrated, number: int) -> float:
    """Measure the seconds of evacuation and restoration, as a client and a ritual observe them."""
    began = monotonic()
    ritual = await ours.harvested(f"bench-{number}")
    await ours.eventually(lambda: is_in(ours, ritual, "evacuated"), UP_S, "evacuated")
    evacuation = monotonic() - began
    began = monotonic()
    await ours.end(ritual)
    await ours.eventually(lambda: admits(ours), UP_S, "requests are admitted")
    await first_answer(ours)
    restoration = monotonic() - began
    await ours.eventually(ours.serves, UP_S, "the hand-over is closed")
    return evacuation + restoration


async def is_in(ours: Orchestrated, ritual: Any, state: str) -> bool:
    return await ours.state(ritual) == state


async def bare_restart(ours: Orchestrated, place: Place) -> float:
    """Measure the seconds from a stop to the first answer after the start, while the orchestrator is paused."""
    ours.pause()
    try:
        began = monotonic()
        await place.stop()
        await place.start()
        await first_answer(ours)
        return monotonic() - began
    finally:
        ours.resume()


async def first_answer(ours: Orchestrated) -> None:
    """Until the engine answers one request."""
    deadline = monotonic() + UP_S
    while monotonic() < deadline:
        try:
            await ours.rune.answer(EMBEDDED_BASE, ASKED, max_tokens=1)
            return
        except InferenceError:
            await asyncio.sleep(POLL_S)
    raise SystemExit(f"no answer within {UP_S} s:\n{ours.log()}")


async def admits(ours: Orchestrated) -> bool:
    try:
        return not (await ours.gate.admission()).closed
    except InferenceError:
        return False


def log(text: str) -> None:
    print(text, flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.handover", description=__doc__)
    # Not `choices`: for an optional argument argparse checks the default list as if it were one choice.
    parser.add_argument("drivers", nargs="*", type=_driver, default=["process"], metavar="|".join(PLACES))
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each driver; default: 3")
    return parser.parse_args(arguments)


def _driver(name: str) -> str:
    if name not in PLACES:
        raise argparse.ArgumentTypeError(f"no driver {name!r}: one of {', '.join(PLACES)}")
    return name


def main() -> None:
    arguments = parse()
    for name in arguments.drivers:
        print(json.dumps(asyncio.run(measure(name, arguments.rounds))))
        sleep(1)


if __name__ == "__main__":
    main()
