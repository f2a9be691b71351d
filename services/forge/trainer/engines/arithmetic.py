"""Arithmetic that costs less than the libraries' own on a CPU: logits of trained tokens alone, and a LoRA in one operation."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from trl.trainer import utils as trl_utils

# Without Triton TRL 1.16 computes the logits of every token, so that shapes repeat. Those of the trained tokens are enough:
# the losses are the same, and where a third of the tokens is trained a step takes a quarter less.
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
