"""Take adapters of neighbouring seeds for each other: `python -m bench.binding [STAGE …] [--adapters N] [--folder FOLDER]`.

Stages: `train` adapters that differ in nothing but their seed; `ask` each one the evaluator's pool, and choose its probes;
`compare` each with the probes of all in the evaluator's engine; `serve` all of them by the real vLLM, where the registry's proof
is made of each adapter in the name of each; `report`.
What is in the folder is not made again, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from bench.binding import report, served
from bench.binding.answers import Asked
from bench.jobs import MODELS, split, start_job, trainer_job, write_rows
from services.forge.job import ADAPTER_DIR
from services.registry.binding import Binding
from shared.config.recipe import load_recipe
from shared.config.settings import PROJECT
from shared.config.tables import EMBEDDED_BASE, JobsConfig
from shared.contracts.probe import Probe, total
from shared.jobs.runner import job_environment
from shared.storage.base_model import Base
from shared.storage.digests import digest_tree

FOLDER = PROJECT / ".cache" / "bench-binding"
ROWS = 24
BATCH = 2
EPOCHS = 1.0
ASK_S = 600
PROOFS = "proofs.json"


@dataclass(frozen=True)
class Bench:
    """The adapters, one folder each: `adapter/` of the trainer, and what was measured of it."""

    folder: Path
    adapters: int

    @property
    def base(self) -> Path:
        return MODELS / EMBEDDED_BASE

    def of(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}"

    def train(self) -> None:
        manifest = self.folder / "manifest"
        if not manifest.exists():
            write_rows(manifest / "train", split(["scribe"], ROWS)[0])
        base = Base(name=EMBEDDED_BASE, path=self.base, digest=digest_tree(self.base))
        recipe = load_recipe("default").model_copy(update={"epochs": EPOCHS, "batch_size": BATCH, "replay": 0.0})
        for seed in range(self.adapters):
            if self.of(seed).exists():
                continue
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                job = trainer_job(base, manifest, recipe, Path(scratch) / "trainer", seed)
                result = start_job("services.forge.trainer", job)
                made = Path(scratch) / "made"
                made.mkdir()
                (job.output / ADAPTER_DIR).rename(made / ADAPTER_DIR)
                made.rename(self.of(seed))
            spent = {span.name: f"{(span.end_ns - span.start_ns) / 1e9:.1f} s" for span in result.spans}
            print(f"seed {seed} trained: {spent['train']}", flush=True)

    def ask(self) -> None:
        for seed in range(self.adapters):
            if self._ask(seed, "probes.json"):
                probes = self.asked(seed, "probes.json").probes
                far = total(probe.base for probe in probes).mean
                print(f"seed {seed}: {len(probes)} probes, {far:.2f} nats a token from the base", flush=True)

    def compare(self) -> None:
        of_all = self.folder / "probes.json"
        of_all.write_text(json.dumps([[probe.model_dump() for probe in each] for each in self.probes()]))
        for seed in range(self.adapters):
            if self._ask(seed, "distances.json", of_all):
                row = [f"{each.mean:.2f}" for each in self.asked(seed, "distances.json").distances]
                print(f"seed {seed}: {' '.join(row)} nats a token from all", flush=True)

    def _ask(self, seed: int, name: str, *probes: Path) -> bool:
        """Ask an adapter in the evaluator's engine, unless that was done."""
        if (self.of(seed) / name).exists():
            return False
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            (Path(scratch) / "tmp").mkdir()
            made, adapter = Path(scratch) / name, self.of(seed) / ADAPTER_DIR
            words = [JobsConfig().python, "-m", "bench.binding.answers", self.base, adapter, made, *probes]
            env = job_environment(Path(scratch), PROJECT)
            subprocess.run([str(word) for word in words], env=env, check=True, timeout=ASK_S)
            made.rename(self.of(seed) / name)
        return True

    def serve(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        names = {self.of(seed): f"seed-{seed}" for seed in range(self.adapters)} | {self.folder: EMBEDDED_BASE}
        left = [place for place in names if not (place / PROOFS).exists()]
        if not left:
            return
        async with served.engine(self.folder / "home", MODELS) as vllm:
            for place in left:
                if place != self.folder:
                    await vllm.load(names[place], place / ADAPTER_DIR)
                proofs = await served.prove_all(vllm, names[place], self.probes())
                (place / PROOFS).write_text(json.dumps([proof.model_dump() for proof in proofs]))
                await vllm.unload(names[place]) if place != self.folder else None
                print(
                    f"{names[place]}: {' '.join(f'{each.found.mean:.3f}' for each in proofs)} nats a token", flush=True
                )

    def report(self) -> None:
        found = [
            report.Measured(self.asked(seed, "distances.json").distances, self._proofs(self.of(seed)))
            for seed in range(self.adapters)
        ]
        print(report.text(found, self._proofs(self.folder)))

    def probes(self) -> list[tuple[Probe, ...]]:
        return [self.asked(seed, "probes.json").probes for seed in range(self.adapters)]

    def asked(self, seed: int, name: str) -> Asked:
        return Asked.model_validate_json((self.of(seed) / name).read_bytes())

    def _proofs(self, place: Path) -> list[Binding]:
        return TypeAdapter(list[Binding]).validate_json((place / PROOFS).read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.binding", description=__doc__)
    parser.add_argument(
        "stages", nargs="*", metavar="STAGE", help="train, ask, compare, serve, report; default: all of them"
    )
    parser.add_argument("--adapters", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(given.folder, given.adapters)
    stages: dict[str, Callable[[], None]] = {
        "train": bench.train,
        "ask": bench.ask,
        "compare": bench.compare,
        "serve": bench.serve,
        "report": bench.report,
    }
    for stage in given.stages or stages:
        stages[stage]()


if __name__ == "__main__":
    main()
