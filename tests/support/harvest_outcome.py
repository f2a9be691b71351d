"""What the harvester, as a service, makes of an intent."""

from __future__ import annotations

import json
from typing import Any

from services.harvester.app import app
from shared.config.settings import Settings
from shared.contracts.intent import TrainingIntent
from shared.contracts.roles import Role
from shared.messaging.client import connect
from shared.storage.postgres import Pool
from tests.support.running import eventually
from tests.support.services import running


async def outcome(pool: Pool, settings: Settings, **intent: Any) -> tuple[str, dict[str, Any]]:
    """The first fact that the harvester states about an intent, and what it says."""
    async with running(app, settings):
        client = await connect(settings, Role.PUBLISHER)
        await client.publish(TrainingIntent.subject, json.dumps({"persona": "scribe", **intent}).encode())
        await client.close()

        async def stated() -> bool:
            return bool(await pool.fetchval("SELECT count(*) FROM ritual_fact"))

        await eventually(stated, 60, "the harvester states a fact")
    row = await pool.fetchrow("SELECT subject, body FROM ritual_fact")
    assert row is not None
    return row["subject"], row["body"]
