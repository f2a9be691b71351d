"""What must hold once the faults are over, read from ledger, streams, engine and processes."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import asyncpg

from shared.config.model import embedded
from shared.contracts.registry import AdapterRegistered
from shared.contracts.ritual import ENDS, State
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.inference.port import InferenceError
from shared.drivers.inference.vllm import Vllm
from shared.messaging.client import connect
from shared.messaging.streams import SOUL
from tests.chaos.house import ANVIL, RUNE, ChaosHouse
from tests.chaos.senders import Sent
from tests.support.servers import TESTER

POLL_S = 0.5
#: A ritual has each of these facts at most once, whatever its attempts.
ONCE = ("karma.harvested", "karma.refused", "adapter.verified", "adapter.banished", AdapterRegistered.subject)
END_FACTS = (
    "karma.refused",
    "gpu.refused",
    "adapter.failed",
    "adapter.banished",
    "adapter.awakened",
    "adapter.kept",
    "ritual.cancelled",
)


@dataclass
class Found:
    """Breaches of the four promises, and how the rituals ended."""

    rituals: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)


class Checker:
    """Reads past the proxies, and never writes."""

    def __init__(self, house: ChaosHouse) -> None:
        self._house = house
        self._containers = ProcessContainers(house.settings.containers_dir)
        self._rune = Vllm(embedded().rune_url(house.settings))

    async def settle(self, sent: Iterable[Sent], within_s: float) -> Found:
        """Wait until nothing is left to do, or as long as `within_s`; what is left then is stuck."""
        found = Found()
        deadline = monotonic() + within_s
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self._house.settings.database_url("bootstrap"))
        try:
            while (left := await self._list_unfinished(connection)) and monotonic() < deadline:
                await asyncio.sleep(POLL_S)
            found.stuck += left
            await self._check_rituals(connection, list(sent), found)
            await self._check_facts(connection, found)
            await self._check_effects(connection, found)
            await self._check_stream(found)
        finally:
            await connection.close()
        return found

    async def _list_unfinished(self, connection: asyncpg.Connection[Any]) -> list[str]:
        rows = await connection.fetch("SELECT id, state FROM ritual WHERE ended_at IS NULL")
        left = [f"ritual {row['id']} is {row['state']}" for row in rows]
        if holder := await connection.fetchval("SELECT ritual FROM lease WHERE anvil = $1", ANVIL):
            left.append(f"ritual {holder} holds {ANVIL}")
        left += [
            f"hand-over {row['fence']} of ritual {row['ritual']} is not restored"
            for row in await connection.fetch(
                "SELECT fence, ritual FROM orchestrator.hand_over WHERE restored_at IS NULL"
            )
        ]
        for schema in ("harvester", "orchestrator", "forge", "verifier", "registry"):
            if waiting := await connection.fetchval(f"SELECT count(*) FROM {schema}.outbox WHERE published_at IS NULL"):
                left.append(f"{waiting} messages in the outbox of the {schema}")
        left += [f"container {info.name} is left" for info in await self._containers.list({}) if info.name != RUNE]
        return left + await self._list_not_served(connection)

    async def _list_not_served(self, connection: asyncpg.Connection[Any]) -> list[str]:
        try:
            models = await self._rune.models()
        except InferenceError as error:
            return [f"inference is not back: {error}"]
        wanted = await connection.fetch(
            "SELECT persona, champion AS version FROM registry.alias WHERE champion IS NOT NULL"
        )
        return [f"{row['persona']} is not served by {row['version']}" for row in wanted if row["version"] not in models]

    async def _check_rituals(self, connection: asyncpg.Connection[Any], sent: list[Sent], found: Found) -> None:
        rows = await connection.fetch("SELECT id, intent_id, state FROM ritual")
        states = {row["id"]: State(row["state"]) for row in rows}
        found.rituals = len(rows)
        found.ends.update(str(state) for state in states.values() if state in ENDS)
        found.lost += [
            f"intent {one.id} was never answered, after {one.tries} tries" for one in sent if not one.acknowledged
        ]
        found.lost += [
            f"intent {one.id} was acknowledged, and has no ritual"
            for one in sent
            if one.acknowledged and one.ritual not in states
        ]
        found.doubled += [f"intent {one.id} got the answers {one.answers}" for one in sent if one.wrong]
        times = Counter(row["intent_id"] for row in rows)
        found.doubled += [f"intent {name} has {count} rituals" for name, count in times.items() if count > 1]

    async def _check_facts(self, connection: asyncpg.Connection[Any], found: Found) -> None:
        """Each fact once, each the continuation of the one before, and one end."""
        facts: dict[Any, list[Any]] = defaultdict(list)
        for row in await connection.fetch("SELECT * FROM ritual_fact ORDER BY stated_at"):
            facts[row["ritual"]].append(row)
        for ritual, own in facts.items():
            for (subject, attempt), count in Counter((row["subject"], row["attempt"]) for row in own).items():
                if count > 1:
                    found.doubled.append(f"ritual {ritual} has {subject} {count} times in attempt {attempt}")
            subjects = Counter(row["subject"] for row in own)
            found.doubled += [
                f"ritual {ritual} has {name} {subjects[name]} times" for name in ONCE if subjects[name] > 1
            ]
            if sum(subjects[name] for name in END_FACTS) > 1:
                found.doubled.append(f"ritual {ritual} ended more than once: {dict(subjects)}")
            state = State.INTENDED
            for row in own:
                if row["state_before"] != state:
                    found.doubled.append(
                        f"ritual {ritual}: {row['subject']} follows {row['state_before']}, not {state}"
                    )
                state = State(row["state_after"])

    async def _check_effects(self, connection: asyncpg.Connection[Any], found: Found) -> None:
        """An alias moved once for each awakened ritual, and for no other; one version of each registered one."""
        rows = await connection.fetch(
            "SELECT id, state, (SELECT count(*) FROM registry.decision d WHERE d.ritual = r.id AND action = 'promote') AS moves, "
            "(SELECT count(*) FROM registry.version WHERE ritual = id) AS versions, "
            f"(SELECT count(*) FROM ritual_fact WHERE ritual = id AND subject = '{AdapterRegistered.subject}') AS registered "
            "FROM ritual r"
        )
        for row in rows:
            awakened = int(row["state"] == State.AWAKENED)
            if row["moves"] > awakened or row["versions"] > row["registered"]:
                found.doubled.append(
                    f"ritual {row['id']} is {row['state']}: {row['moves']} moves, {row['versions']} versions"
                )
            if row["moves"] < awakened or row["versions"] < row["registered"]:
                found.lost.append(
                    f"ritual {row['id']} is {row['state']}: {row['moves']} moves, {row['versions']} versions"
                )

    async def _check_stream(self, found: Found) -> None:
        """The stream holds each published event at most once; what was in it when it was wiped is gone."""
        client = await connect(self._house.settings, TESTER)
        try:
            stream = client.jetstream()
            waiting = (await stream.stream_info(SOUL)).state.messages
            subscription = await stream.subscribe(">", stream=SOUL, ordered_consumer=True)
            ids: Counter[str] = Counter()
            for _ in range(waiting):
                message = await subscription.next_msg(timeout=10)
                ids.update([(message.headers or {}).get("Nats-Msg-Id", "")])
            found.doubled += [
                f"event {name} is in the stream {count} times" for name, count in ids.items() if name and count > 1
            ]
        finally:
            await client.close()
