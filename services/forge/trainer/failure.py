"""How a training run ends without an adapter."""

from __future__ import annotations


class TrainingError(Exception):
    """The run failed; `permanent` says that the same job would fail again."""

    permanent = False


class BadInput(TrainingError):
    """The job, its data or its base cannot be trained as they are."""

    permanent = True


class Interrupted(TrainingError):
    """The run was asked to stop; it left a checkpoint where it had made a step."""
