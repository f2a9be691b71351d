"""Train with and without replay and print the drop in base logic: `python -m bench.replay [--rows N] [--seeds S …] [--items N]`.

Each seed trains both arms on the same rows of the example karma and measures both on the same items, in the jobs'
environment, as a ritual does. Rows of every fifth session are held out. All answers are made in the job.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from bench.jobs import MODELS, split, start_job, trainer_job, write_rows
from services.forge.job import ADAPTER_DIR
from services.verifier.job import EvaluatorJob
from services.verifier.results import RESULTS_FILE, Results
from shared.config.recipe import load_recipe
from shared.config.settings import PROJECT
from shared.config.tables import EMBEDDED_BASE
from shared.contracts.forge import TrainingFigures
from shared.contracts.verify import Arm
from shared.storage.base_model import Base
from shared.storage.digests import digest_tree

SUITES = PROJECT / "services" / "verifier" / "suites"
ARMS = {"without": 0.0, "with": load_recipe("default").replay}


@dataclass(frozen=True)
class Run:
    """One trained and measured adapter. `drop` is in points of base logic, `nll` nats a token of the held-out answers."""

    seed: int
    arm: str
    base: float
    drop: float
    nll: float
    answers: int
    missing: int
    replay_s: float
    train_s: float


def main(personas: Sequence[str], rows: int, seeds: Sequence[int], items: int | None) -> None:
    with tempfile.TemporaryDirectory(prefix="soulforge-bench-") as folder:
        bench = Bench(Path(folder), personas, rows, items)
        print(f"{bench.rows} rows, share {ARMS['with']:g} of their trained tokens, seeds {' '.join(map(str, seeds))}")
        print(
            f"{'seed':>4} {'replay':>8} {'base':>7} {'drop':>6} {'NLL':>6} {'answers':>8} {'made in':>8} {'trained in':>10}"
        )
        runs = [bench.run(seed, arm) for seed in seeds for arm in ARMS]
    for arm in ARMS:
        drops = [run.drop for run in runs if run.arm == arm]
        spread = f" ± {statistics.stdev(drops):.2f}" if len(drops) > 1 else ""
        nll = statistics.mean(run.nll for run in runs if run.arm == arm)
        print(f"{arm:>8} replay: drop {statistics.mean(drops):+.2f}{spread} points, held-out NLL {nll:.3f}")


class Bench:
    """The rows, the items and the base that all runs share."""

    def __init__(self, folder: Path, personas: Sequence[str], rows: int, items: int | None) -> None:
        self._folder, path = folder, MODELS / EMBEDDED_BASE
        self._base = Base(name=EMBEDDED_BASE, path=path, digest=digest_tree(path))
        self._manifest, self._holdout = folder / "manifest", folder / "holdout"
        trained, held_out = split(personas, rows)
        write_rows(self._manifest / "train", trained)
        write_rows(self._holdout / "holdout", held_out)
        self._suites = first_items(folder / "suites", items) if items else SUITES
        self.rows = len(trained)

    def run(self, seed: int, arm: str) -> Run:
        folder = self._folder / f"{arm}-{seed}"
        recipe = load_recipe("default").model_copy(update={"replay": ARMS[arm]})
        job = trainer_job(self._base, self._manifest, recipe, folder / "trainer", seed)
        trained = start_job("services.forge.trainer", job)
        start_job(
            "services.verifier.evaluator", self._evaluator(folder / "evaluator", folder / "trainer" / ADAPTER_DIR)
        )
        figures = TrainingFigures.model_validate(trained.result)
        results = Results.model_validate_json((folder / "evaluator" / RESULTS_FILE).read_bytes())
        shares = {each: share_right(results, each) for each in (Arm.BASE, Arm.CANDIDATE)}
        seconds = {span.name: (span.end_ns - span.start_ns) / 1e9 for span in trained.spans}
        replay = figures.replay
        run = Run(
            seed,
            arm,
            base=100 * shares[Arm.BASE],
            drop=100 * (shares[Arm.BASE] - shares[Arm.CANDIDATE]),
            nll=statistics.mean(item.arms[Arm.CANDIDATE].nll for item in results.holdout),
            answers=replay.cached + replay.generated,
            missing=replay.missing,
            replay_s=seconds["replay"],
            train_s=seconds["train"],
        )
        shutil.rmtree(folder)
        print(
            f"{seed:>4} {arm:>8} {run.base:>6.1f}% {run.drop:>+6.1f} {run.nll:>6.3f} {run.answers:>8} {run.replay_s:>6.1f} s "
            f"{run.train_s:>8.1f} s",
            flush=True,
        )
        return run

    def _evaluator(self, output: Path, adapter: Path) -> EvaluatorJob:
        return EvaluatorJob(
            ritual=UUID(int=0),
            attempt=1,
            fence=1,
            base=self._base.path,
            base_digest=self._base.digest,
            adapter=adapter,
            adapter_digest=digest_tree(adapter),
            holdout=self._holdout,
            holdout_digest=digest_tree(self._holdout),
            suites=self._suites,
            output=output,
            answer_max_tokens=1,
        )


def first_items(folder: Path, items: int) -> Path:
    """A copy of the suites with the first items of each kind."""
    shutil.copytree(SUITES, folder)
    for file in folder.rglob("*.jsonl"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(lines[:items]), encoding="utf-8")
    return folder


def share_right(results: Results, arm: Arm) -> float:
    return statistics.mean(item.correct for item in results.items if item.arm is arm)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=__doc__)
    parser.add_argument("--personas", nargs="+", default=["scribe"])
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--items", type=int, help="of each kind of the suite; default: all")
    given = parser.parse_args()
    main(given.personas, given.rows, given.seeds, given.items)
