"""A short trainer for fault tests: takes an adapter that was really trained, and waits where a test holds it.

Run in place of the real one, in the same sandbox: `python -m tests.support.fakes.fake_trainer JOB.json`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tests.support.facts import TRAINING
from tests.support.fakes.holding import REHEARSAL, conclude, hold


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    output = Path(job["output"])
    hold("trainer", output)
    adapter = output / "adapter"
    shutil.copytree(REHEARSAL / "adapter", adapter, copy_function=shutil.copyfile)
    config = adapter / "adapter_config.json"
    # Another ritual, another digest; the weights are the same.
    config.write_text(json.dumps({**json.loads(config.read_text()), "revision": job["ritual"]}))
    conclude(output, TRAINING.model_dump(mode="json"))


if __name__ == "__main__":
    main()
