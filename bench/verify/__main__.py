"""Time an evaluation against two runs of lm-eval's command line on the same items: `python -m bench.verify [--suites NAME …]`.

The evaluator asks both arms with the base's scores kept from an earlier evaluation; lm-eval's command line asks the base, then
the base with the adapter, with batches of the same size. Times are of whole processes. The evaluator's has a holdout of a few
records and the items that the base is asked twice, which lm-eval's does not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from uuid import UUID

from bench.jobs import JOB_S, MODELS, split, start_job, trainer_job, write_rows
from services.forge.job import ADAPTER_DIR
from services.verifier.job import HOLDOUT, EvaluatorJob
from services.verifier.results import RESULTS_FILE, Results
from shared.config.model import embedded
from shared.config.recipe import load_recipe
from shared.config.settings import PROJECT
from shared.config.tables import EMBEDDED_BASE, JobsConfig
from shared.contracts.verify import Arm
from shared.jobs.runner import job_environment
from shared.storage.base_model import Base
from shared.storage.digests import digest_tree
from shared.storage.suites import LoadedSuite, items_asked, load_suites

ROWS = 8  #: that the candidate is trained on: enough to differ from the base
HELD_OUT = 4
BATCH = 32  #: of lm-eval's command line, as the evaluator's own for choices
WANTED = 0.5


@dataclass(frozen=True)
class Timed:
    """What a process took, and how many choices each arm that it asked got right."""

    seconds: float
    right: dict[Arm, int]


class Bench:
    """The base, a candidate, and the suites in the forms of both sides."""

    def __init__(self, folder: Path, chosen: Sequence[str], items: int | None) -> None:
        self._folder, self.base = folder, MODELS / EMBEDDED_BASE
        self.digest = digest_tree(self.base)
        self._copy(chosen, items)
        self.suites = load_suites(folder / "suites")
        trained, held_out = split(["scribe"], ROWS)
        write_rows(folder / "holdout" / HOLDOUT, held_out[:HELD_OUT])
        self.adapter = self._train(trained)
        (folder / "tasks").mkdir()
        self._python("-m", "bench.verify.tasks", folder / "suites", self.base, folder / "tasks")

    def evaluator(self, known: Results | None) -> tuple[Timed, Results]:
        """Ask both arms, the base only what is not known of it."""
        kept = self._folder / "kept.json"
        if known:
            kept.write_text(known.kept_base_scores().model_dump_json(), encoding="utf-8")
        job = EvaluatorJob(
            ritual=UUID(int=0),
            attempt=1,
            fence=1,
            base=self.base,
            base_digest=self.digest,
            adapter=self.adapter,
            adapter_digest=digest_tree(self.adapter),
            holdout=self._folder / "holdout",
            holdout_digest=digest_tree(self._folder / "holdout"),
            suites=self._folder / "suites",
            output=self._folder / "evaluator",
            base_scores=kept if known else None,
        )
        began = monotonic()
        start_job("services.verifier.evaluator", job)
        seconds = monotonic() - began
        results = Results.model_validate_json((job.output / RESULTS_FILE).read_bytes())
        shutil.rmtree(job.output)
        if results.base_scores != ("cached" if known else "measured"):
            sys.exit(f"the base's scores were {results.base_scores}")
        choices = {name for name, suite in self.suites.items() if suite.choices}
        right = {
            arm: sum(score.correct for score in results.items if score.arm is arm and score.suite in choices)
            for arm in (Arm.BASE, Arm.CANDIDATE)
        }
        return Timed(seconds, right), results

    def command_line(self, arm: Arm) -> Timed:
        """Ask one arm by lm-eval's command line."""
        made, tasks = self._folder / "lm_eval", self._folder / "tasks"
        peft = f",peft={self.adapter}" if arm is Arm.CANDIDATE else ""
        arguments = ["--model", "hf", "--model_args", f"pretrained={self.base},dtype=auto,softmax_dtype=float32{peft}"]
        arguments += ["--tasks", ",".join(sorted(file.stem for file in tasks.glob("*.yaml")))]
        arguments += ["--include_path", str(tasks), "--batch_size", str(BATCH), "--output_path", str(made)]
        seconds = self._python("-m", "lm_eval", "run", *arguments)
        (file,) = made.rglob("results_*.json")
        found = json.loads(file.read_text(encoding="utf-8"))
        shutil.rmtree(made)
        counts = {task: one["effective"] for task, one in found["n-samples"].items()}
        if sum(counts.values()) != sum(suite.count for suite in self.suites.values()):
            sys.exit(f"lm_eval asked {sum(counts.values())} items")
        right = sum(
            round(one["acc,none"] * counts[task]) for task, one in found["results"].items() if "acc,none" in one
        )
        return Timed(seconds, {arm: right})

    def _copy(self, chosen: Sequence[str], items: int | None) -> None:
        """The chosen suites, or those that block, with those whose answers they judge; of each task the first items."""
        shipped = embedded().suites
        suites = load_suites(shipped)
        names = set(chosen) or {name for name, suite in suites.items() if suite.suite.policy.blocking}
        if unknown := names - suites.keys():
            sys.exit(f"there is no suite {min(unknown)}: {', '.join(suites)}")
        for name in names | {of for name in names if (of := suites[name].suite.style_of)}:
            _copy_suite(suites[name], shipped, self._folder / "suites", items)

    def _train(self, rows: Sequence[dict[str, object]]) -> Path:
        write_rows(self._folder / "manifest" / "train", rows)
        base = Base(name=EMBEDDED_BASE, path=self.base, digest=self.digest)
        recipe = load_recipe("default").model_copy(update={"epochs": 1.0, "replay": 0.0})
        job = trainer_job(base, self._folder / "manifest", recipe, self._folder / "trainer", 0)
        start_job("services.forge.trainer", job)
        return job.output / ADAPTER_DIR

    def _python(self, *words: object) -> float:
        """Run the jobs' Python with a job's environment; returns the seconds that it took. Exits with its error."""
        scratch = self._folder / "scratch"
        (scratch / "tmp").mkdir(parents=True)
        command = [str(JobsConfig().python), *map(str, words)]
        began = monotonic()
        ended = subprocess.run(
            command,
            cwd=scratch,
            env=job_environment(scratch, PROJECT),
            capture_output=True,
            text=True,
            timeout=JOB_S,
            check=False,
        )
        seconds = monotonic() - began
        shutil.rmtree(scratch)
        return seconds if ended.returncode == 0 else sys.exit(ended.stderr[-2000:])


def _copy_suite(suite: LoadedSuite, source: Path, folder: Path, items: int | None) -> None:
    (folder / suite.name).mkdir(parents=True)
    shutil.copy(source / f"{suite.name}.yaml", folder)
    for file in suite.files.values():
        lines = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
        (folder / suite.name / file.name).write_text("\n".join(lines[:items]) + "\n", encoding="utf-8")


def main(chosen: Sequence[str], items: int | None, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="soulforge-bench-") as folder:
        bench = Bench(Path(folder), chosen, items)
        asked = ", ".join(f"{name} ({items_asked(bench.suites, name)} items)" for name in bench.suites)
        choices = sum(suite.count for suite in bench.suites.values() if suite.choices)
        print(
            f"suites: {asked}; right answers of {choices} choices, by arm\n\n{'':32} {'seconds':>8}  right", flush=True
        )
        first, known = bench.evaluator(None)
        show("evaluator, first of its base", first)
        ratios = []
        for _ in range(rounds):
            ours, _ = bench.evaluator(known)
            show("evaluator, base known", ours)
            theirs = [bench.command_line(arm) for arm in (Arm.BASE, Arm.CANDIDATE)]
            for arm, one in zip((Arm.BASE, Arm.CANDIDATE), theirs, strict=True):
                show(f"lm_eval command line, {arm}", one)
            ratios.append(ours.seconds / sum(one.seconds for one in theirs))
            print(f"{'evaluator / both of lm_eval':32} {ratios[-1]:>8.2f}", flush=True)
        print(f"\nmedian of {rounds}: {statistics.median(ratios):.2f} of the time of two runs, at most {WANTED} wanted")


def show(name: str, timed: Timed) -> None:
    right = ", ".join(f"{arm} {count}" for arm, count in timed.right.items())
    print(f"{name:32} {timed.seconds:>8.1f}  {right}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.verify", description=__doc__)
    parser.add_argument("--suites", nargs="+", default=[], help="by name; default: those that block")
    parser.add_argument("--items", type=int, help="of each task; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.suites, given.items, given.rounds)
