"""Open the drivers of a rune: of its engine, and of the gateway's gate before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.drivers.inference.admission import Gate
from shared.drivers.inference.vllm import Vllm

if TYPE_CHECKING:
    from shared.config.model import Configuration
    from shared.config.settings import Settings
    from shared.drivers.inference.port import AdmissionControl, Inference


def open_rune(configuration: Configuration, settings: Settings, name: str) -> Inference:
    """The engine of a rune. Nothing is asked of it yet."""
    return Vllm(configuration.rune_url(settings, name))


def open_gate(settings: Settings, name: str) -> AdmissionControl:
    """The gateway's gate before the engine of a rune. Nothing is asked of it yet."""
    return Gate(settings.gateway_control_url, name)
