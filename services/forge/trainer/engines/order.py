"""The order of the training rows: a function of seed and epoch, so that a resumed run sees them as an uninterrupted one.

The sampler of transformers draws from the global random numbers, which depend on what was evaluated before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from services.forge.trainer.curve import is_over

EPOCH_BITS = 16  #: no pass of a seed has the order of another seed's pass


class EpochOrder:
    """A sampler. `group` rows of similar length follow each other where it is not None; set `epoch` before each pass."""

    def __init__(self, lengths: Sequence[int], seed: int, group: int | None) -> None:
        self._lengths, self._seed, self._group = list(lengths), seed, group
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self._seed << EPOCH_BITS) + self.epoch)
        if self._group is None:
            return iter(torch.randperm(len(self), generator=generator).tolist())
        return iter(get_length_grouped_indices(self._lengths, self._group, generator=generator))


class InOrder:
    """Makes a trainer take the rows in the order of the run, and no step after its end. Goes before the trainer's class."""

    order: EpochOrder
    patience: int
    state: Any

    def _get_train_sampler(self, *_: Any) -> EpochOrder:
        return self.order

    def _run_epoch(self, *args: Any, **options: Any) -> None:
        """Train a pass; none where the run had ended before it was resumed, in the middle of a pass or early."""
        if self.state.global_step < self.state.max_steps and not is_over(self.state.log_history, self.patience):
            super()._run_epoch(*args, **options)  # type: ignore[misc]  # of the trainer
