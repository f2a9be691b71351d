"""Worker queues: held while the anvil is leased, so that only the ritual uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.config.model import BusConfig, SaqConfig
from shared.drivers.queues.bus import BusQueue
from shared.drivers.queues.port import WorkerQueue
from shared.drivers.queues.saq import SaqQueue

if TYPE_CHECKING:
    from nats.aio.client import Client


def open_queue(config: SaqConfig | BusConfig, database_url: str, client: Client) -> WorkerQueue:
    """Make the driver of a queue; `database_url` and `client` are the installation's. Opens nothing that must be closed."""
    if isinstance(config, BusConfig):
        return BusQueue(config, client)
    return SaqQueue(config, database_url)
