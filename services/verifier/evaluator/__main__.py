"""python -m services.verifier.evaluator JOB.json: measures base and candidate; torch comes after the job is read."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType

from services.verifier.evaluator.report import Report
from services.verifier.job import EvaluatorJob
from services.verifier.results import RESULTS_FILE
from shared.contracts.job import JobResult
from shared.digests import digest_file

OFFLINE = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
# Threads that spin at a barrier take the cores that the others need: three times slower where anything else runs.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
REASONS = 20  # most that are told on the bus


class Interrupted(BaseException):
    """The job was asked to stop. Not an Exception, so that no library takes it for an error of its own."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.verifier.evaluator", description=__doc__)
    parser.add_argument("job", type=Path, help="path of job.json")
    job = EvaluatorJob.model_validate_json(parser.parse_args().job.read_bytes())
    job.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report(job.output)
    result = _run(job, report)
    report.finish(result)
    if result.error:
        print(result.error, file=sys.stderr)
    return 0 if result.ok else 1


def _run(job: EvaluatorJob, report: Report) -> JobResult:
    try:
        with tempfile.TemporaryDirectory(prefix="evaluator-") as cache:
            return _evaluated(job, report, cache)
    except Interrupted:
        return JobResult(ok=False, error="stopped on request", interrupted=True, spans=tuple(report.spans))
    except Exception as error:
        # The border of the process: whatever happened has to reach the service in a file.
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        return JobResult(ok=False, error=message, permanent=_is_permanent(error), spans=tuple(report.spans))


def _evaluated(job: EvaluatorJob, report: Report, cache: str) -> JobResult:
    # Libraries read these when they are imported: nothing is fetched, nothing is written outside the cache.
    os.environ.update(OFFLINE | WAITING, HF_HOME=cache)  # noqa: TID251 - set for them, not read from the house

    from services.verifier.evaluator.evaluate import evaluate

    results = evaluate(job, report)
    summary = {
        "results": RESULTS_FILE,
        "digest": digest_file(job.output / RESULTS_FILE),
        "engine": results.engine,
        "base_scores": results.base_scores,
        "items": len(results.items),
        "held_out": len(results.holdout),
        "left_out": dict(Counter(results.holdout_left_out.values()).most_common(REASONS)),
    }
    return JobResult(ok=True, spans=tuple(report.spans), result=summary)


def _is_permanent(error: Exception) -> bool:
    from services.verifier.evaluator.failure import InputError

    return isinstance(error, InputError)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


if __name__ == "__main__":
    sys.exit(main())
