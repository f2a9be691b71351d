"""What the engine computes in its own way is what PEFT and TRL compute, values and gradients."""

from __future__ import annotations

import json
import os
import subprocess

from shared.config.settings import PROJECT
from tests.support.model import JOBS_PYTHON, needs_jobs

pytestmark = needs_jobs

COMPARE = """
import json, torch
from peft import LoraConfig, get_peft_model
from services.forge.trainer.engines import arithmetic

def adapted(fused):
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["0"], init_lora_weights=False)
    if fused:
        config._register_custom_module({torch.nn.Linear: arithmetic.FusedLinear})
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(24, 40)), config)
    given = torch.randn(2, 5, 24, requires_grad=True)
    made = model(given)
    made.pow(2).sum().backward()
    with model.disable_adapter():
        base = model(given)
    trained = [value.grad for value in model.parameters() if value.requires_grad]
    return type(model.base_model.model[0]).__name__, [made, base, given.grad, *trained]

def scored(function):
    torch.manual_seed(0)
    hidden = torch.randn(7, 24, requires_grad=True)
    weight, bias, targets = torch.randn(90, 24), torch.randn(90), torch.randint(0, 90, (7,))
    targets[:3] = (hidden @ weight.T + bias).argmax(-1)[:3]
    outputs = ("log_probs", "entropy", "is_top1")
    found, entropy, _, _, first = function.apply(hidden, weight, bias, targets, 1.0, 32, None, 1.0, outputs)
    (found * torch.arange(7)).sum().backward()
    return [found, entropy, first.float(), hidden.grad]

(one, fused), (other, plain) = adapted(True), adapted(False)
arithmetic.MOST_LOGITS = 0
chunked = scored(arithmetic.LogProbs)
arithmetic.MOST_LOGITS = 630
pairs = [*zip(fused, plain), *zip(scored(arithmetic.LogProbs), scored(arithmetic.CHUNKED)), *zip(chunked, scored(arithmetic.CHUNKED))]
print(json.dumps({"names": [one, other], "apart": [float((a - b).abs().max() / (b.abs().max() + 1e-9)) for a, b in pairs]}))
"""


def test_a_fused_lora_and_the_log_probabilities_of_trained_tokens_are_those_of_the_libraries() -> None:
    command = [str(JOBS_PYTHON), "-c", COMPARE]
    done = subprocess.run(
        command, cwd=PROJECT, env=dict(os.environ), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["names"] == ["FusedLinear", "Linear"]
    assert len(found["apart"]) == 13
    assert max(found["apart"]) < 1e-5, found["apart"]
