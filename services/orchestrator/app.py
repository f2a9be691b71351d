"""The orchestrator: hears whatever begins or ends GPU work, states `gpu.evacuated`, `gpu.refused` and `gpu.restored`."""

from __future__ import annotations

from services.orchestrator.reconcile import Orchestrator
from shared.contracts.evacuate import GpuAccept, GpuReclaim
from shared.contracts.intent import RitualCancel
from shared.contracts.message import Service
from shared.service import App

orchestrator = Orchestrator()
app = App(
    service=Service.ORCHESTRATOR,
    handlers={
        RitualCancel: orchestrator.ritual_cancel,
        GpuReclaim: orchestrator.gpu_reclaim,
        GpuAccept: orchestrator.gpu_accept,
    },
    reconcile=orchestrator.reconcile,
    background=(orchestrator.end_looks,),
)
