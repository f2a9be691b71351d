"""A short evaluator for fault tests: reports what the real one found for the same weights, after a hold.

Run in place of the real one, in the same sandbox: `python -m tests.support.fakes.fake_evaluator JOB.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.support.fakes.holding import REHEARSAL, conclude, hold


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    output = Path(job["output"])
    hold("evaluator", output)
    found = json.loads((REHEARSAL / "results.json").read_text())
    measured = {name: job[name] for name in ("base_digest", "holdout_digest")}
    measured["arms"] = {"base": None, "candidate": job["adapter_digest"]}
    (output / "results.json").write_text(json.dumps({**found, **measured}))
    conclude(output, {})


if __name__ == "__main__":
    main()
