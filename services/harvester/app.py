"""The harvester: consumes intents, consecrations and revocations; records `karma.harvested` or `karma.refused`."""

from __future__ import annotations

from functools import partial

from services.harvester.auto_trigger.watch import trigger_loop
from services.harvester.embedding.embedder import Embedder
from services.harvester.embedding.keep import embedding_loop
from services.harvester.handlers import answer_invalid, router
from services.harvester.reconcile import Harvester
from services.harvester.replies import RequestReplies
from services.harvester.settings import HarvesterSettings, TriggerSettings
from shared.contracts.intent import TrainingIntent
from shared.runtime.context import ServiceContext
from shared.runtime.service import App, Service
from shared.runtime.telemetry import root_export_loop


def build(context: ServiceContext) -> Service:
    configuration = context.configuration
    embedder = Embedder(configuration.jobs.python, context.settings.project)
    harvester = Harvester(context, configuration.section(HarvesterSettings), embedder)
    trigger = configuration.section(TriggerSettings)
    replies = RequestReplies(context.nats, TrainingIntent.subject)

    async def start() -> None:
        await replies.start()
        await harvester.start()

    async def stop() -> None:
        await replies.stop()
        await embedder.end()

    return Service(
        harvester.reconcile,
        loops=(
            embedding_loop(context, embedder),
            *trigger_loop(context, trigger, trigger.poll_s),
            root_export_loop(context),
        ),
        start=start,
        stop=stop,
        dependencies={"replies": replies},
        answer_invalid=partial(answer_invalid, replies),
    )


app = App("harvester", router, build)
