"""One training in a process of its own, for its memory: `python -m bench.memory.run SETTING.json BASE FOLDER`.

Prints its MemoryFigures. With `--make` it writes a base of random weights into BASE instead.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from bench.memory.configurations import SHAPES, TRAINED, Setting
from services.forge.job import TrainerJob
from services.forge.trainer.__main__ import ENVIRONMENT, keep_freed_memory
from services.forge.trainer.render import IGNORED, Example
from shared.storage.base_model import Base

STEPS = 24  #: each of another length: what is kept for each grows with them


def measure(setting: Setting, base: Path, folder: Path) -> None:
    os.environ.update(ENVIRONMENT)
    keep_freed_memory()
    from services.forge.trainer.engines.trl import TrlEngine
    from services.forge.trainer.memory import idle_bytes, peak_bytes, plan_memory, within_memory
    from services.forge.trainer.stop import StopRequest
    from shared.jobs.result_writer import ResultWriter

    recipe = setting.recipe.model_copy(update={"epochs": 1.0, "keep_best": False})
    job = TrainerJob(
        ritual="bench",
        attempt=1,
        fence=1,
        base=Base(name=setting.base, path=base, digest="sha256:base"),
        manifest_dir=folder,
        manifest_digest="sha256:manifest",
        recipe=recipe,
        output=folder,
        checkpointing=setting.checkpointing,
    )
    examples = rows(setting)
    engine, idle = TrlEngine(), idle_bytes()
    engine.load(job)
    planned = plan_memory(job, examples, idle)
    engine.train(within_memory(job, planned), examples, [], None, ResultWriter(folder), StopRequest())
    print(planned.model_copy(update={"peak": peak_bytes()}).model_dump_json())


def rows(setting: Setting) -> list[Example]:
    """Rows of random tokens, the longest of `length`; the last of their tokens are trained."""
    chance, count = random.Random(0), STEPS * setting.recipe.batch_size
    lengths = [setting.length] + [round(setting.length * chance.uniform(0.7, 1)) for _ in range(count - 1)]
    return [_row(chance, number, length) for number, length in enumerate(lengths)]


def _row(chance: random.Random, number: int, length: int) -> Example:
    tokens = [chance.randrange(100, 8000) for _ in range(length)]
    prompt = round((1 - TRAINED) * length)
    return Example(str(number), tokens, [IGNORED] * prompt + tokens[prompt:], "full")


def make_base(shape: str, tokenizer: Path, folder: Path) -> None:
    """Write a model of random weights with the tokenizer of another one."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    values = dict(SHAPES[shape])
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(tokenizer)).save_pretrained(folder)


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make_base(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        measure(Setting.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
