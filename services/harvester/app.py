"""The harvester: hears intents, consecrations and revocations, states `karma.harvested` or `karma.refused`."""

from __future__ import annotations

from services.harvester.consent import karma_revoked
from services.harvester.handlers import Intents, karma_consecrated
from services.harvester.reconcile import Harvester
from services.harvester.tipping import watch
from shared.contracts.intent import TrainingIntent
from shared.contracts.karma import KarmaConsecrated, KarmaRevoked
from shared.contracts.message import Service
from shared.runtime.service import App

intents = Intents()
harvester = Harvester()
app = App(
    service=Service.HARVESTER,
    handlers={
        TrainingIntent: intents.training_intent,
        KarmaConsecrated: karma_consecrated,
        KarmaRevoked: karma_revoked,
    },
    answer_invalid={TrainingIntent: intents.answer_invalid},
    background=(intents.listen, harvester.keep_embedded, watch.watch),
    reconcile=harvester.reconcile,
)
