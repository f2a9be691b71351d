"""The registry: hears `adapter.verified`, `gpu.restored` and `karma.recalled`; states `adapter.registered` and `adapter.awakened`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.registry.recall import karma_recalled, settle
from services.registry.reconcile import Registry
from shared.contracts.karma import KarmaRecalled
from shared.contracts.message import Service
from shared.service import App

if TYPE_CHECKING:
    from shared.service import Station

registry = Registry()


async def reconcile(station: Station) -> None:
    # Recalls come first: nothing that they withdraw is to be loaded or awakened.
    await settle(station)
    await registry.reconcile(station)


app = App(service=Service.REGISTRY, handlers={KarmaRecalled: karma_recalled}, reconcile=reconcile)
