"""Try everything: `python -m attempts PLAN.json` writes OUTCOMES.json into the output that the plan names."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from . import ATTEMPTS
from .attempt import Attempt, Plan, Refused

WITHIN_S = 20


def outcome(attempt: Attempt, plan: Plan) -> str:
    """Try it in a process of its own: "allowed", "refused: why", or "broken: why"."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.alarm(WITHIN_S)
        os.write(writer, _tried(attempt, plan).encode()[:400])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, errors="replace") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if answer:
        return answer
    return f"refused: ended by signal {-status}" if status == -signal.SIGSYS else f"broken: ended with {status}"


def _tried(attempt: Attempt, plan: Plan) -> str:
    try:
        attempt.run(plan)
    except (OSError, Refused) as error:
        return f"refused: {error}"
    except BaseException as error:
        return f"broken: {error!r}"
    return "allowed"


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    harmless_only = given.pop("harmless_only")
    chosen = [attempt for attempt in ATTEMPTS if attempt.harmless or not harmless_only]
    outcomes = {attempt.name: outcome(attempt, Plan(**given)) for attempt in chosen}
    Path(given["output"], "OUTCOMES.json").write_text(json.dumps(outcomes))
