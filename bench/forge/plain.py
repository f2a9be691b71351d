"""TRL as its documentation shows it, in the jobs' environment, and the machine's matrix rate: `python -m bench.forge.plain JOB.json`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from services.forge.job import TrainerJob
from services.forge.trainer.render import Example, render
from services.forge.trainer.rows import Split, read_rows
from shared.contracts.frozen import Frozen
from shared.contracts.job import Progress
from shared.jobs.result_writer import ResultWriter

MATRIX_ROUNDS, MATRIX_S = 5, 0.4


class Plain(Frozen):
    """What an arm changes of TRL's own arguments, or of the environment of its process."""

    precision: Literal["bf16", "fp32"] = Field("bf16", description="Of the base; the arithmetic is bf16 by autocast.")
    checkpointing: bool = Field(False, description="Activations are computed again in the backward pass.")
    grouped: bool = Field(False, description="Rows of similar length in one step.")
    attention: Literal["sdpa", "eager"] = "sdpa"
    environment: dict[str, str] = Field(default_factory=dict)


class PlainJob(TrainerJob):
    """A run of TRL; without `plain` the machine's matrix rate is measured instead."""

    plain: Plain | None


class PlainResult(Frozen):
    """Nats per trained token of the held-out rows; or operations per second, and those that a token of the rows costs."""

    held_out_nll: float | None = None
    flops_per_s: float = 0
    flops_per_token: float = 0


def main(job: PlainJob) -> int:
    writer = ResultWriter(job.output)
    return writer.run(lambda: _train(job, job.plain, writer) if job.plain else _matrix_rate(job))


def _train(job: PlainJob, plain: Plain, writer: ResultWriter) -> PlainResult:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    recipe, tokenizer = job.recipe, AutoTokenizer.from_pretrained(job.base.path)
    train, held_out = (_examples(tokenizer, split) for split in read_rows(job.manifest_dir, job.manifest_digest))

    class Report(TrainerCallback):  # type: ignore[misc]  # untyped where transformers is not installed
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if "loss" in logs:
                rate = logs["num_tokens"] / (time.monotonic() - self.began)
                line = {"done": state.global_step, "total": state.max_steps, "unit": "steps", "tokens_per_s": rate}
                writer.progress(Progress(phase="train", **line))

    asked = SFTConfig(
        output_dir=str(job.output / "trl"),
        seed=job.effective_seed,
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup_ratio,
        gradient_checkpointing=plain.checkpointing,
        train_sampling_strategy="group_by_length" if plain.grouped else "random",
        use_cpu=not torch.cuda.is_available(),
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            job.base.path,
            dtype=torch.float32 if plain.precision == "fp32" else torch.bfloat16,
            attn_implementation=plain.attention,
        ),
        args=asked,
        train_dataset=Dataset.from_list([{"input_ids": list(e.input_ids), "labels": list(e.labels)} for e in train]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=recipe.r, lora_alpha=recipe.alpha, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Report()],
    )
    trainer.train()
    trainer.model.eval()
    total = 0.0
    with torch.inference_mode(), torch.autocast(trainer.model.device.type, torch.bfloat16):
        for example in held_out:
            ids, labels = (torch.tensor([list(part)]) for part in (example.input_ids, example.labels))
            on = trainer.model.device
            total += float(trainer.model(input_ids=ids.to(on), labels=labels.to(on)).loss) * example.trained
    return PlainResult(held_out_nll=total / sum(example.trained for example in held_out))


def _examples(tokenizer: Any, split: Split) -> list[Example]:
    return [example for row in split for example in render(tokenizer, row, {tokenizer.eos_token_id})]


def _matrix_rate(job: PlainJob) -> PlainResult:
    """The best of some rounds, at the shape of a step in the base's widest layer."""
    import torch
    from transformers import AutoTokenizer

    train, _ = read_rows(job.manifest_dir, job.manifest_digest)
    examples = _examples(AutoTokenizer.from_pretrained(job.base.path), train)
    tokens, trained = (sum(map(count, examples)) for count in (lambda e: len(e.input_ids), lambda e: e.trained))
    config = json.loads((job.base.path / "config.json").read_text(encoding="utf-8"))
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    groups = config["num_key_value_heads"] / config["num_attention_heads"]
    weights = layers * hidden * (3 * inner + hidden * (2 + 2 * groups))
    logits = config["vocab_size"] * hidden * trained / tokens
    rows = job.recipe.batch_size * tokens // len(examples)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left = torch.randn(rows, hidden, dtype=torch.bfloat16, device=device)
    right = torch.randn(inner, hidden, dtype=torch.bfloat16, device=device)
    best = 0.0
    for _ in range(MATRIX_ROUNDS):
        rounds, began = 0, time.perf_counter()
        while (seconds := time.perf_counter() - began) < MATRIX_S:
            _ = float(torch.nn.functional.linear(left, right)[0, 0])  # read, so that a GPU has finished
            rounds += 1
        best = max(best, rounds * 2 * rows * hidden * inner / seconds)
    return PlainResult(flops_per_s=best, flops_per_token=4 * (weights + logits))


if __name__ == "__main__":
    sys.exit(main(PlainJob.model_validate_json(Path(sys.argv[1]).read_bytes())))
