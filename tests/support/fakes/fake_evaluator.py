"""A short evaluator for fault tests: reports what the real one found for the same weights, after a hold.

Run in place of the real one, in the same sandbox: `python -m tests.support.fakes.fake_evaluator JOB.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from services.verifier.results import RESULTS_FILE, Results
from tests.support.evaluations import answered
from tests.support.fakes.holding import REHEARSAL, conclude, hold


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    output = Path(job["output"])
    hold("evaluator", output)
    found = Results.model_validate_json((REHEARSAL / RESULTS_FILE).read_bytes())
    (output / RESULTS_FILE).write_text(answered(job, found).model_dump_json())
    conclude(output, {})


if __name__ == "__main__":
    main()
