"""Arithmetic that costs less than the libraries' own on a CPU: logits of trained tokens alone, and a LoRA in one operation."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from trl.trainer import utils as trl_utils

MOST_LOGITS = 2**25  #: beyond it TRL's own function is taken, which never has all of them in memory at once
COMPUTED = frozenset({"log_probs", "entropy", "is_top1"})
CHUNKED = trl_utils._ChunkedLogProbFunction


class LogProbs:
    """Takes the place of TRL's function, which computes logits twice and multiplies their gradients in float32."""

    @staticmethod
    def apply(
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk: int,
        softcap: float | None,
        scale: float,
        outputs: tuple[str, ...],
    ) -> tuple[Tensor | None, ...]:
        """Of each row: log probability of its target, entropy, two figures that nothing here asks for, and whether it is the first."""
        plain = (temperature, softcap, scale) == (1.0, None, 1.0) and COMPUTED.issuperset(outputs)
        if not plain or hidden.is_cuda or len(hidden) * len(weight) > MOST_LOGITS:
            made: tuple[Tensor | None, ...] = CHUNKED.apply(
                hidden, weight, bias, targets, temperature, chunk, softcap, scale, outputs
            )
            return made
        log_probs = nn.functional.linear(hidden, weight, bias).log_softmax(-1, dtype=torch.float32)
        known = log_probs.detach()
        entropy = -(known.exp() * known).sum(-1)
        return log_probs.gather(-1, targets[:, None])[:, 0], entropy, None, None, known.argmax(-1) == targets


trl_utils._ChunkedLogProbFunction = LogProbs
# Without Triton TRL 1.16 computes the logits of every token, so that shapes repeat. Those of the trained tokens are enough.
trl_utils._use_triton = lambda device: True


class FusedLinear(Linear):  # type: ignore[misc]  # untyped where peft is not installed
    """PEFT's layer, whose ten operations are one here, without casts of the layer's input to the adapter's float32 and back.

    What is not the one plain adapter that a run trains is computed as PEFT does it.
    """

    def forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        name = self.active_adapters[0]
        plain = (
            name in self.lora_A and isinstance(self.lora_dropout[name], nn.Identity) and name not in self.lora_variant
        )
        if not plain or len(self.active_adapters) > 1 or self.disable_adapters or self.merged or args or options:
            return super().forward(x, *args, **options)
        base = self.base_layer
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        made: Tensor = _LoraProduct.apply(x, base.weight, base.bias, down, up, self.scaling[name])
        return made


class _LoraProduct(torch.autograd.Function):  # type: ignore[misc]  # untyped where torch is not installed
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ in the precision of x, for a frozen W and b. The gradients of A and B have their own."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        a, b = down.to(x.dtype), up.to(x.dtype)
        inner = rows @ a.T
        ctx.save_for_backward(rows, weight, a, b, inner)
        ctx.scale, ctx.shape, ctx.precision = scale, x.shape, down.dtype
        made = nn.functional.linear(rows, weight, bias).addmm_(inner, b.T, alpha=scale)
        return made.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        rows, weight, a, b, inner = ctx.saved_tensors
        of_made = gradients[0].reshape(-1, weight.shape[0])
        of_inner = (of_made @ b).mul_(ctx.scale)
        of_up = (of_made.T @ inner).to(ctx.precision).mul_(ctx.scale)
        of_down = (of_inner.T @ rows).to(ctx.precision)
        of_x = (of_made @ weight).addmm_(of_inner, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return of_x, None, None, of_down, of_up, None
