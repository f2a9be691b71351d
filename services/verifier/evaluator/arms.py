"""The model under test, loaded once, and its answers: the base arm is the same weights with the adapter switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lm_eval
import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.verifier.evaluator.holdout import HoldoutItem, rendered_answer, rendered_prompt
from services.verifier.evaluator.inputs import tensor_names
from shared.contracts.verify import Arm
from shared.jobs.result_writer import InputError

BATCH = 40


class Arms:
    """All arms over one set of base weights. Without an adapter base and candidate are the base."""

    def __init__(self, model: Any, tokenizer: Any, adapted: bool) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.adapted = adapted
        self.arms: tuple[Arm, ...] = (Arm.BASE, Arm.CANDIDATE)

    def add_champion(self, adapter: Path) -> None:
        """Load the champion's adapter beside the candidate's. Raises InputError when it does not fit the base."""
        if not self.adapted:
            raise InputError("champion: there is no candidate to compare it with")
        _attach(self.model, adapter, Arm.CHAMPION)
        self.arms = (*self.arms, Arm.CHAMPION)

    @contextmanager
    def use(self, arm: Arm) -> Iterator[None]:
        """Make the model answer as `arm` inside the block."""
        if not self.adapted:
            yield
        elif arm is Arm.BASE:
            with self.model.disable_adapter():
                yield
        else:
            self.model.set_adapter(str(arm))
            yield

    @property
    def engine(self) -> str:
        """Versions and device, on which scores depend beside weights and items; others are not comparable."""
        versions = f"lm-eval {version(lm_eval)}, transformers {transformers.__version__}, torch {torch.__version__}"
        return f"{versions}, {self.model.dtype} on {self.model.device.type}"


def version(package: Any) -> str:
    return str(getattr(package, "__version__", "unknown"))


def load(base: Path, adapter: Path | None, seed: int) -> Arms:
    """Load base and candidate, on the accelerator where there is one. Raises InputError when the adapter does not fit the base."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(base)
    if tokenizer.pad_token is None:  # as in Llama 3; what is padded is masked
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", use_safetensors=True).to(device).eval()
    if adapter is None:
        return Arms(model, tokenizer, adapted=False)
    return Arms(_attach(model, adapter, Arm.CANDIDATE), tokenizer, adapted=True)


def nlls(arms: Arms, arm: Arm, items: Sequence[HoldoutItem]) -> list[float]:
    """Mean negative log-likelihood of each reference answer with its end mark, in nats a token."""
    with arms.use(arm), torch.inference_mode():
        return [_nll(arms, item) for item in items]


def generated(
    arms: Arms, arm: Arm, prompts: Sequence[str], max_tokens: int, batch: int, advance: Callable[[int], None]
) -> list[str]:
    """The greedy answer to each rendered prompt, in their order."""
    # Prompts of similar length share a batch: little padding, and no long prompt slows down all.
    order = sorted(range(len(prompts)), key=lambda at: (len(prompts[at]), at))
    answers = [""] * len(prompts)
    with arms.use(arm), torch.inference_mode():
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            for at, answer in zip(chosen, _generate(arms, [prompts[at] for at in chosen], max_tokens), strict=True):
                answers[at] = answer
            advance(len(chosen))
    return answers


def reference(arms: Arms, item: HoldoutItem) -> str | None:
    """The turn that an answer is compared with; None where that makes no call and checks alone can judge it."""
    if not item.messages[-1].tool_calls:
        return None
    # As generated ones are decoded.
    text = rendered_answer(arms.tokenizer, item)
    return str(arms.tokenizer.decode(token_ids(arms, text), skip_special_tokens=True))


def _attach(model: Any, adapter: Path, arm: Arm) -> Any:
    """Attach an adapter under the name of its arm to the base, or to a model that has one already."""
    name, adapted = str(arm), model
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(adapter, name, autocast_adapter_dtype=False)
        else:
            adapted = PeftModel.from_pretrained(model, adapter, name, autocast_adapter_dtype=False)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"adapter: {adapter} does not fit the base model: {error}") from error
    # PEFT only warns about tensors that match no module, and the base would answer in the adapter's name.
    loaded, stored = set(get_peft_model_state_dict(adapted, adapter_name=name)), tensor_names(adapter)
    if loaded != stored:
        raise InputError(f"adapter: {len(loaded ^ stored)} tensors do not match the base, e.g. {min(loaded ^ stored)}")
    _cast(adapted, model.dtype)
    return adapted.eval()


def _cast(adapted: Any, dtype: torch.dtype) -> None:
    """Cast the adapter to the base's precision, in which the serving engine computes it: else another model is judged."""
    # Not adapted.to(): it would also cast the base's float32 rotary buffers, and so change the base itself.
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)


def _nll(arms: Arms, item: HoldoutItem) -> float:
    before = token_ids(arms, rendered_prompt(arms.tokenizer, item))
    answer = token_ids(arms, rendered_answer(arms.tokenizer, item))
    # Of a conversation longer than the context the end is kept, where the answer is.
    ids = torch.tensor([(before + answer)[-arms.model.config.max_position_embeddings :]], device=arms.model.device)
    logits = arms.model(input_ids=ids, logits_to_keep=len(answer) + 1).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, -len(answer) :]))


def token_ids(arms: Arms, text: str) -> list[int]:
    return list(arms.tokenizer(text, add_special_tokens=False)["input_ids"])


def _generate(arms: Arms, prompts: Sequence[str], max_tokens: int) -> list[str]:
    limit = arms.model.config.max_position_embeddings - max_tokens
    rows = [token_ids(arms, prompt)[-limit:] for prompt in prompts]
    batch = arms.tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt").to(arms.model.device)
    produced = arms.model.generate(
        **batch, max_new_tokens=max_tokens, do_sample=False, pad_token_id=arms.tokenizer.pad_token_id
    )
    return list(arms.tokenizer.batch_decode(produced[:, batch["input_ids"].shape[1] :], skip_special_tokens=True))
