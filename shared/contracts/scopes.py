"""The scopes of a client's key, and which one a command needs: the same words at the gateway, on the bus and in the database."""

from __future__ import annotations

from enum import StrEnum

from shared.contracts.evacuate import GpuAccept, GpuReclaim
from shared.contracts.intent import RitualCancel, RitualPause, RitualResume, TrainingIntent
from shared.contracts.karma import KarmaConsecrated, KarmaRejected, KarmaRemembered, KarmaRevoked
from shared.contracts.message import Message
from shared.contracts.registry import AdapterDecide


class Scope(StrEnum):
    """What a key allows. No scope but `admin` includes another."""

    CHAT = "chat"  #: ask models
    TRAIN = "train"  #: bring records, which are speculative, and request rituals
    CONSECRATE = "consecrate"  #: vouch for records, and revoke them
    APPROVE = "approve"  #: decide about versions
    ADMIN = "admin"  #: everything


#: The scope that a client needs to cause a command: each that the owner may publish has one.
SCOPES: dict[type[Message], Scope] = {
    TrainingIntent: Scope.TRAIN,
    RitualCancel: Scope.TRAIN,
    RitualPause: Scope.TRAIN,
    RitualResume: Scope.TRAIN,
    KarmaRemembered: Scope.TRAIN,
    KarmaConsecrated: Scope.CONSECRATE,
    KarmaRejected: Scope.CONSECRATE,
    KarmaRevoked: Scope.CONSECRATE,
    AdapterDecide: Scope.APPROVE,
    GpuReclaim: Scope.ADMIN,
    GpuAccept: Scope.ADMIN,
}
