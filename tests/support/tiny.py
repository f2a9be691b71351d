"""A base of random weights with the tested model's tokenizer: it trains in seconds."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.model import JOBS_PYTHON

MAKE = """
import sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
model, folder = sys.argv[1:]
torch.manual_seed(0)
config = AutoConfig.from_pretrained(
    model, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16
)
AutoModelForCausalLM.from_config(config).save_pretrained(folder)
AutoTokenizer.from_pretrained(model).save_pretrained(folder)
GenerationConfig.from_pretrained(model).save_pretrained(folder)
"""


def tiny_base(folder: Path, model: Path) -> Path:
    subprocess.run([str(JOBS_PYTHON), "-c", MAKE, str(model), str(folder)], check=True, timeout=120)
    return folder
