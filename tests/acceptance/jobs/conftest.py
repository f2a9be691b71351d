"""A run of each training engine and method, once for all tests of this folder that ask for it."""

from __future__ import annotations

from functools import cache

import pytest

from shared.contracts.forge import EngineName
from tests.support.model import require_unsloth
from tests.support.training import Trained, Training, train_in_two_attempts


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Train with an engine and a method, or return what was trained before."""

    @cache
    def train(engine: EngineName, method: str) -> Trained:
        if engine == "unsloth":
            require_unsloth()
        return train_in_two_attempts(tmp_path_factory.mktemp(f"{engine}-{method}"), engine, method)

    return train
