"""Open the driver of a rune's engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.drivers.inference.vllm import Vllm

if TYPE_CHECKING:
    from shared.config.model import Configuration
    from shared.config.settings import Settings
    from shared.drivers.inference.port import Inference


def open_rune(configuration: Configuration, settings: Settings, name: str, inside: bool = False) -> Inference:
    """The engine of a rune. Nothing is asked of it yet.

    `inside` marks every request as one of our own services, which the gate lets pass while it is closed.
    """
    return Vllm(configuration.rune_url(settings, name), settings.engine_key, inside)
