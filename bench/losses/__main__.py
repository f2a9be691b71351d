"""Train the corrections of the example karma with each loss, and print what it does to held-out ones: `python -m bench.losses`.

Every third session with a correction is held out. `sft` trains the corrected answers alone, for comparison.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.jobs import MODELS, start_job, trainer_job, write_rows
from shared.config.recipe import Recipe, load_recipe
from shared.config.settings import PROJECT
from shared.config.tables import EMBEDDED_BASE
from shared.contracts.forge import TrainingFigures
from shared.storage.base_model import Base
from shared.storage.digests import digest_tree

HELD_OUT = 3  #: every so many sessions


def main(losses: Sequence[str], personas: Sequence[str], seeds: Sequence[int], changes: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="soulforge-bench-") as folder:
        manifest = Path(folder) / "manifest"
        trained, held_out = split_corrections(personas)
        write_manifest(manifest, trained, held_out)
        base = Base(name=EMBEDDED_BASE, path=MODELS / EMBEDDED_BASE, digest=digest_tree(MODELS / EMBEDDED_BASE))
        print(f"{len(trained)} corrections to train, {len(held_out)} held out; margins in nats, NLL per token")
        print(f"{'loss':>5} {'seed':>4} {'steps':>5} {'margin':>16} {'NLL of the chosen':>18} {'trained in':>10}")
        for loss in losses:
            runs = []
            for seed in seeds:
                output = Path(folder) / f"{loss}-{seed}"
                runs.append(run(output, manifest, base, recipe_of(loss, changes), seed))
            report(loss, runs)


def recipe_of(loss: str, changes: dict[str, Any]) -> Recipe:
    """The shipped recipe of a loss; for `sft` that of DPO with the other loss."""
    values = load_recipe(loss if loss != "sft" else "dpo").model_dump(exclude_defaults=True)
    return Recipe.model_validate(values | ({"loss": "sft"} if loss == "sft" else {}) | changes)


def run(output: Path, manifest: Path, base: Base, recipe: Recipe, seed: int) -> TrainingFigures:
    result = start_job("services.forge.trainer", trainer_job(base, manifest, recipe, output, seed))
    figures = TrainingFigures.model_validate(result.result)
    seconds = sum((span.end_ns - span.start_ns) / 1e9 for span in result.spans if span.name == "train")
    found = figures.preference
    assert found is not None
    margin = f"{found.margin_before:+.2f} → {found.margin_after:+.2f}"
    nll = f"{found.chosen_nll_before:.3f} → {found.chosen_nll_after:.3f}"
    print(f"{recipe.loss:>5} {seed:>4} {figures.steps:>5} {margin:>16} {nll:>18} {seconds:>8.1f} s", flush=True)
    return figures


def report(loss: str, runs: Sequence[TrainingFigures]) -> None:
    found = [one.preference for one in runs if one.preference]
    margins = [one.margin_after - one.margin_before for one in found]
    losses = [one.chosen_nll_after - one.chosen_nll_before for one in found]
    print(
        f"{loss:>5} mean: margin {statistics.mean(margins):+.2f} ({min(margins):+.2f} to {max(margins):+.2f}), ", end=""
    )
    print(f"NLL of the chosen {statistics.mean(losses):+.3f} ({min(losses):+.3f} to {max(losses):+.3f})", flush=True)


def split_corrections(personas: Sequence[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The corrections to train, and those of every third session."""
    files = [PROJECT / "examples" / "karma" / f"{persona}.jsonl" for persona in personas]
    records = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    known = {record["id"]: record for record in records}
    corrections = [record | {"wrong": known[record["parent"]]} for record in records if record.get("parent")]
    held_out = set(sorted({record["session"] for record in corrections})[::HELD_OUT])
    pairs = [
        {
            "id": record["id"],
            "session": record["session"],
            "prompt": record["messages"][:-1],
            "form": "none",  # as of four in five rows, by the harvest's default policy
            "chosen": record["messages"][-1:],
            "rejected": record["wrong"]["messages"][-1:],
            "why": record["why"],
        }
        for record in corrections
    ]
    return [pair for pair in pairs if pair["session"] not in held_out], [
        pair for pair in pairs if pair["session"] in held_out
    ]


def write_manifest(manifest: Path, trained: Sequence[dict[str, Any]], held_out: Sequence[dict[str, Any]]) -> None:
    write_rows(manifest / "pairs", trained)
    write_rows(manifest / "dev_pairs", held_out)
    write_rows(manifest / "train", as_rows(trained))
    write_rows(manifest / "dev", as_rows(held_out))


def as_rows(pairs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The corrected answers alone, as the manifest has them for SFT and SDFT."""
    return [
        {"id": pair["id"], "messages": [*pair["prompt"], *pair["chosen"]], "prompt": pair["form"], "why": pair["why"]}
        for pair in pairs
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.losses", description=__doc__)
    parser.add_argument("--losses", nargs="+", default=["sft", "dpo", "kto"])
    parser.add_argument("--personas", nargs="+", default=["scribe", "coder"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--changes", type=json.loads, default={}, help="values of the recipes to replace, as JSON")
    given = parser.parse_args()
    main(given.losses, given.personas, given.seeds, given.changes)
