"""Entry of the evaluator job: `python -m services.verifier.evaluator JOB.json`. Imports torch only after parsing."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType

from services.verifier.job import EvaluatorJob
from services.verifier.results import RESULTS_FILE, Evaluated
from shared.jobs.result_writer import Interrupted, ResultWriter
from shared.jobs.start_limit import require_in_time
from shared.storage.digests import digest_file

OFFLINE = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
# Threads that spin at a barrier take the cores that others need: three times slower on a busy machine.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
REASONS = 20  # most that go on the bus


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.verifier.evaluator", description=__doc__)
    parser.add_argument("job", type=Path, help="path of job.json")
    job = EvaluatorJob.model_validate_json(parser.parse_args().job.read_bytes())
    job.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    writer = ResultWriter(job.output)
    return writer.run(lambda: _evaluated(job, writer))


def _evaluated(job: EvaluatorJob, writer: ResultWriter) -> Evaluated:
    require_in_time(job)
    with tempfile.TemporaryDirectory(prefix="evaluator-") as cache:
        # Libraries read these when they are imported: nothing is fetched, nothing is written outside the cache.
        os.environ.update(OFFLINE | WAITING, HF_HOME=cache)  # noqa: TID251 - set for the libraries, not read as configuration

        from services.verifier.evaluator.evaluate import evaluate

        results = evaluate(job, writer)
    return Evaluated(
        results=RESULTS_FILE,
        digest=digest_file(job.output / RESULTS_FILE),
        engine=results.engine,
        base_scores=results.base_scores,
        items=len(results.items),
        held_out=len(results.holdout),
        left_out=dict(Counter(results.holdout_left_out.values()).most_common(REASONS)),
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted("stopped on request")


if __name__ == "__main__":
    sys.exit(main())
