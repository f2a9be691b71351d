"""The model under test, loaded once: the base arm is the same weights with the adapter switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lm_eval
import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.verifier.evaluator.inputs import tensor_names
from services.verifier.results import Arm
from shared.jobs.result_writer import InputError


class Arms:
    """Base and candidate over one set of base weights. Without an adapter both arms are the base."""

    def __init__(self, model: Any, tokenizer: Any, adapted: bool) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.adapted = adapted

    @contextmanager
    def use(self, arm: Arm) -> Iterator[None]:
        """Inside, the model answers as `arm`."""
        if arm is Arm.CANDIDATE or not self.adapted:
            yield
            return
        with self.model.disable_adapter():
            yield

    @property
    def engine(self) -> str:
        """What scores depend on beside weights and items; scores of another engine are not comparable."""
        versions = f"lm-eval {version(lm_eval)}, transformers {transformers.__version__}, torch {torch.__version__}"
        return f"{versions}, {self.model.dtype} on {self.model.device.type}"


def version(package: Any) -> str:
    return str(getattr(package, "__version__", "unknown"))


def load(base: Path, adapter: Path | None, seed: int) -> Arms:
    """Both arms, on the accelerator where there is one. Raises InputError when the adapter does not fit the base."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", use_safetensors=True).to(device).eval()
    if adapter is None:
        return Arms(model, tokenizer, adapted=False)
    return Arms(_attach(model, adapter), tokenizer, adapted=True)


def _attach(model: Any, adapter: Path) -> Any:
    try:
        adapted = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"adapter: {adapter} does not fit the base model: {error}") from error
    # PEFT only warns about tensors that it found no place for, and the base would answer in the adapter's name.
    loaded, stored = set(get_peft_model_state_dict(adapted)), tensor_names(adapter)
    if loaded != stored:
        raise InputError(f"adapter: {len(loaded ^ stored)} tensors do not match the base, e.g. {min(loaded ^ stored)}")
    _cast(adapted, model.dtype)
    return adapted.eval()


def _cast(adapted: Any, dtype: torch.dtype) -> None:
    """The serving engine computes LoRA in the base's precision; float32 here would judge another model."""
    # Not adapted.to(): it would also cast the base's float32 rotary buffers, and so change the base itself.
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
