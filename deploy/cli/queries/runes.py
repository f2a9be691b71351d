"""What a rune answers when `soulforge status` asks it: its models, and whether its admission is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.cli.views.standing_anvils import Seen
from shared.drivers.inference.http import Http
from shared.drivers.inference.port import InferenceError
from shared.drivers.inference.vllm import Vllm

if TYPE_CHECKING:
    from shared.configuration.model import RuneConfig

HEALTH_TIMEOUT_S = 2.0


async def see(url: str, config: RuneConfig) -> Seen:
    """Never raises. A foreign engine that lists no models answers by its health path."""
    rune = Vllm(url)
    try:
        models = tuple(sorted(await rune.models()))
    except (InferenceError, ValueError, LookupError, TypeError):
        return Seen(await _healthy(url, config.health))
    return Seen(True, models, await _closed(rune))


async def _healthy(url: str, path: str) -> bool:
    try:
        return (await Http(url, inside=False).ask("GET", path, timeout=HEALTH_TIMEOUT_S)).is_success
    except InferenceError:
        return False


async def _closed(rune: Vllm) -> str | None:
    try:
        admission = await rune.admission()
    except (InferenceError, ValueError, LookupError, TypeError):
        return None
    return admission.detail if admission.closed else None
