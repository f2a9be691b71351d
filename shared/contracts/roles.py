"""The roles on the bus and what each may publish; permissions and the AsyncAPI document follow from it."""

from __future__ import annotations

from enum import StrEnum

from shared.contracts.capability import CapabilityAnnounced, CapabilityWithdrawn
from shared.contracts.evacuate import (
    GpuAccept,
    GpuContained,
    GpuEvacuated,
    GpuInterrupted,
    GpuReclaim,
    GpuRefused,
    GpuRestored,
    InferenceResumed,
    InferenceSuspended,
)
from shared.contracts.forge import AdapterFailed, AdapterForged
from shared.contracts.harvest import KarmaHarvested, KarmaRefused
from shared.contracts.intent import (
    RitualCancel,
    RitualCancelled,
    RitualPause,
    RitualProgress,
    RitualResume,
    TrainingIntent,
)
from shared.contracts.karma import KarmaConsecrated, KarmaRecalled, KarmaRejected, KarmaRemembered, KarmaRevoked
from shared.contracts.message import Message
from shared.contracts.queue import QueueAsk, QueuePause, QueuePaused, QueueResume
from shared.contracts.registry import (
    AdapterAwakened,
    AdapterDecide,
    AdapterDecided,
    AdapterKept,
    AdapterProposed,
    AdapterRegistered,
    AdapterTainted,
    DecisionRefused,
)
from shared.contracts.verify import AdapterBanished, AdapterVerified


class Role(StrEnum):
    """Who connects. Each has a key of its own."""

    BOOTSTRAP = "bootstrap"  #: creates streams and consumers
    HARVESTER = "harvester"
    ORCHESTRATOR = "orchestrator"
    FORGE = "forge"
    VERIFIER = "verifier"
    REGISTRY = "registry"
    GATEWAY = "gateway"
    OWNER = "owner"  #: the person, on the command line
    PUBLISHER = "publisher"  #: other components: they request rituals, bring karma, read facts
    WORKER = "worker"  #: workers of a queue on the bus, which pause while the anvil is leased


#: The services that own a stage of a ritual.
STAGES = frozenset({Role.HARVESTER, Role.ORCHESTRATOR, Role.FORGE, Role.VERIFIER, Role.REGISTRY})
SERVICES = STAGES | {Role.GATEWAY}

PUBLISHERS: dict[type[Message], frozenset[Role]] = {
    TrainingIntent: frozenset({Role.OWNER, Role.PUBLISHER, Role.HARVESTER, Role.VERIFIER, Role.REGISTRY, Role.GATEWAY}),
    RitualCancel: frozenset({Role.OWNER, Role.PUBLISHER, Role.GATEWAY}),
    RitualPause: frozenset({Role.OWNER, Role.PUBLISHER, Role.GATEWAY}),
    RitualResume: frozenset({Role.OWNER, Role.PUBLISHER, Role.GATEWAY}),
    GpuReclaim: frozenset({Role.OWNER}),
    GpuAccept: frozenset({Role.OWNER}),
    AdapterDecide: frozenset({Role.OWNER, Role.GATEWAY}),
    KarmaRemembered: frozenset({Role.OWNER, Role.PUBLISHER, Role.GATEWAY}),
    KarmaConsecrated: frozenset({Role.OWNER, Role.GATEWAY}),
    KarmaRejected: frozenset({Role.OWNER}),
    KarmaRevoked: frozenset({Role.OWNER}),
    QueuePaused: frozenset({Role.WORKER}),
    KarmaHarvested: frozenset({Role.HARVESTER}),
    KarmaRefused: frozenset({Role.HARVESTER}),
    GpuEvacuated: frozenset({Role.ORCHESTRATOR}),
    GpuRefused: frozenset({Role.ORCHESTRATOR}),
    GpuInterrupted: frozenset({Role.ORCHESTRATOR, Role.FORGE, Role.VERIFIER}),
    AdapterForged: frozenset({Role.FORGE}),
    AdapterFailed: STAGES,
    AdapterVerified: frozenset({Role.VERIFIER}),
    AdapterBanished: frozenset({Role.VERIFIER}),
    GpuRestored: frozenset({Role.ORCHESTRATOR}),
    AdapterRegistered: frozenset({Role.REGISTRY}),
    AdapterProposed: frozenset({Role.REGISTRY}),
    AdapterAwakened: frozenset({Role.REGISTRY}),
    AdapterKept: frozenset({Role.REGISTRY}),
    RitualCancelled: STAGES,
    RitualProgress: frozenset({Role.HARVESTER, Role.FORGE, Role.VERIFIER}),
    InferenceSuspended: frozenset({Role.ORCHESTRATOR}),
    InferenceResumed: frozenset({Role.ORCHESTRATOR}),
    GpuContained: frozenset({Role.ORCHESTRATOR}),
    QueuePause: frozenset({Role.ORCHESTRATOR}),
    QueueResume: frozenset({Role.ORCHESTRATOR}),
    QueueAsk: frozenset({Role.ORCHESTRATOR}),
    KarmaRecalled: frozenset({Role.HARVESTER}),
    AdapterTainted: frozenset({Role.REGISTRY}),
    AdapterDecided: frozenset({Role.REGISTRY}),
    DecisionRefused: frozenset({Role.REGISTRY}),
    CapabilityAnnounced: frozenset({Role.GATEWAY}),
    CapabilityWithdrawn: frozenset({Role.GATEWAY}),
}


def is_command(message: type[Message]) -> bool:
    """Whether a message comes from outside: some role that is no service may publish it."""
    return not PUBLISHERS[message] <= SERVICES
