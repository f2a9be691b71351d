"""Train the same rows by every way and print rates and held-out NLL: `python -m bench.forge [--steps N] [--seeds S …]`.

Each seed trains every arm in turn, so that what else the machine does meets all: TRL with its own arguments, and the
forge's engines. All have the same rows, LoRA shape, learning rate and number of steps. Rates are of tokens seen, without
padding, from the begin of the first step to the end of the last.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.forge.plain import Plain, PlainJob, PlainResult
from bench.jobs import MODELS, split, start_job, trainer_job, write_rows
from services.forge.job import TrainerJob
from shared.config.recipe import load_recipe
from shared.config.tables import EMBEDDED_BASE, JobsConfig
from shared.contracts.forge import EngineName, TrainingFigures
from shared.contracts.job import PROGRESS_FILE, Progress
from shared.storage.base_model import Base
from shared.storage.digests import digest_tree

BATCH, EPOCHS = 8, 2
#: What the trainer sets for itself: freed memory stays in the process, threads do not spin for long.
ALLOCATOR = {
    "GOMP_SPINCOUNT": "2000",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}
ARMS: dict[str, Plain | EngineName] = {
    "TRL's defaults": Plain(precision="fp32", checkpointing=True),
    "TRL, best plain": Plain(grouped=True),
    "the same, eager": Plain(grouped=True, attention="eager", environment=ALLOCATOR),
    "unsloth": "unsloth",
    "trl (ours)": "trl",
}
DEFAULTS, BEFORE = "TRL's defaults", "the same, eager"  #: the latter is the forge's engine without its own operations


@dataclass
class Figures:
    """Of one arm, one value per seed."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def main(rows: int, seeds: Sequence[int], arms: Sequence[str]) -> None:
    found, machine = {arm: Figures() for arm in arms}, []
    with tempfile.TemporaryDirectory(prefix="soulforge-bench-") as folder:
        bench = Bench(Path(folder), rows)
        for seed in seeds:
            machine.append(bench.matrix_rate())
            for arm in arms:
                rate, loss = bench.train(ARMS[arm], seed)
                found[arm].rates.append(rate)
                found[arm].losses.append(loss)
                print(f"seed {seed} {arm:16} {rate:7.1f} tokens/s, held-out NLL {loss:.4f}", flush=True)
    peak = statistics.median(result.flops_per_s for result in machine)
    cost = machine[0].flops_per_token
    print(
        f"\n{bench.rows} rows, {EPOCHS} passes, {BATCH} a step; the machine's bf16 matrix rate is {peak / 1e9:.0f} GFLOP/s,"
    )
    print(f"a token costs {cost / 1e9:.2f} GFLOP (forward, gradients of the inputs, logits of trained tokens)\n")
    print(f"{'':16} {'tokens/s':>9} {'× defaults':>11} {'× before':>9} {'of the rate':>12} {'held-out NLL':>18}")
    for arm, figures in found.items():
        rate = statistics.median(figures.rates)
        ratios = "".join(f"{ratio(found, arm, against):>{width}}" for against, width in ((DEFAULTS, 12), (BEFORE, 10)))
        spread = f" ± {statistics.stdev(figures.losses):.4f}" if len(seeds) > 1 else ""
        nll = f"{statistics.mean(figures.losses):.4f}{spread}"
        print(f"{arm:16} {rate:>9.1f}{ratios} {rate * cost / peak:>12.0%} {nll:>18}")


def ratio(found: dict[str, Figures], arm: str, against: str) -> str:
    """The median over the seeds of what an arm's rate is to another's of the same seed."""
    if against not in found:
        return "–"
    pairs = zip(found[arm].rates, found[against].rates, strict=True)
    return f"{statistics.median(rate / other for rate, other in pairs):.2f}"


class Bench:
    """The rows and the base that all arms share."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._folder, path = folder, MODELS / EMBEDDED_BASE
        self._base = Base(name=EMBEDDED_BASE, path=path, digest=digest_tree(path))
        trained, held_out = split(["scribe"], rows)
        write_rows(folder / "manifest" / "train", trained)
        write_rows(folder / "manifest" / "dev", held_out)
        self.rows = len(trained)

    def matrix_rate(self) -> PlainResult:
        job = self._job(self._folder / "rate", 0, "trl")
        result = start_job("bench.forge.plain", PlainJob(**job.model_dump(), plain=None))
        shutil.rmtree(job.output)
        return PlainResult.model_validate(result.result)

    def train(self, arm: Plain | EngineName, seed: int) -> tuple[float, float]:
        """Tokens per second, and nats per trained token of the held-out rows after the last step."""
        job = self._job(self._folder / "run", seed, "trl" if isinstance(arm, Plain) else arm)
        if isinstance(arm, Plain):
            result = start_job("bench.forge.plain", PlainJob(**job.model_dump(), plain=arm), arm.environment)
            loss = PlainResult.model_validate(result.result).held_out_nll
        else:
            result = start_job("services.forge.trainer", job)
            loss = TrainingFigures.model_validate(result.result).dev_loss_after
        lines = (job.output / PROGRESS_FILE).read_text(encoding="utf-8").splitlines()
        *_, last = (line for line in map(Progress.model_validate_json, lines) if line.phase == "train")
        shutil.rmtree(job.output)
        assert last.tokens_per_s is not None and loss is not None
        return last.tokens_per_s, loss

    def _job(self, output: Path, seed: int, engine: EngineName) -> TrainerJob:
        values = {"replay": 0, "epochs": EPOCHS, "batch_size": BATCH, "keep_best": False, "checkpoint_steps": 10_000}
        recipe = load_recipe("default").model_copy(update=values)
        return trainer_job(self._base, self._folder / "manifest", recipe, output, seed, engine)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.forge", description=__doc__)
    parser.add_argument("--steps", type=int, help=f"at most; default: {EPOCHS} passes over all rows")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    return parser.parse_args()


if __name__ == "__main__":
    given = parse()
    wanted = list(given.arms)
    if "unsloth" in wanted and JobsConfig().environment("unsloth").missing:
        wanted.remove("unsloth")
        print("Unsloth is left out: it is not installed here (make setup-unsloth)")
    main(given.steps * BATCH // EPOCHS if given.steps else 10_000, given.seeds, wanted)
