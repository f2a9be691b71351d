"""The harvester: hears intents, states `karma.harvested` or `karma.refused`."""

from __future__ import annotations

from services.harvester.handlers import Intents
from services.harvester.reconcile import reconcile
from shared.contracts.intent import TrainingIntent
from shared.contracts.message import Service
from shared.service import App

intents = Intents()
app = App(
    service=Service.HARVESTER,
    handlers={TrainingIntent: intents.training_intent},
    answer_invalid={TrainingIntent: intents.answer_invalid},
    background=(intents.listen,),
    reconcile=reconcile,
)
