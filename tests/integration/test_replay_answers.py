"""The forge asks the base for answers through a real gateway: while nobody else does, for what waits, and within a budget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
from nats.aio.client import Client

from deploy.services import load_configuration
from services.forge import ask_base
from services.forge.ask_base import AT_ONCE, MARGIN, BaseAnswers, NotNow
from services.forge.handlers import karma_harvested
from services.forge.job import TrainerJob
from services.forge.reconcile import Forge
from services.forge.replay.answers import (
    SAMPLING,
    Answer,
    Place,
    answers_key,
    append_answers,
    make_answer,
    read_answers,
)
from services.forge.replay.prompts import list_prompts
from shared.config.recipe import load_recipe
from shared.config.settings import Settings
from shared.config.tables import PersonaConfig
from shared.contracts.harvest import KarmaHarvested
from shared.drivers.inference.open import open_gate
from shared.jobs.runner import JobPlan
from shared.ritual import ledger
from shared.ritual.lease import Lease
from shared.ritual.ledger import Ritual
from shared.runtime.context import ServiceContext
from shared.storage.artifacts import Artifacts
from shared.storage.base_model import Bases
from shared.storage.digests import digest_file
from shared.storage.postgres import Pool, open_pool
from tests.support.gateways import BASE, Gateway, gateway_over
from tests.support.running import eventually
from tests.support.stages import evacuated, harvested

ROWS, TRAINED = 60, 100
BUDGET_S = 60.0


@dataclass
class Asking:
    """A gateway before one engine, a ritual that waits, and what the forge keeps of the base."""

    gateway: Gateway
    context: ServiceContext
    ritual: UUID
    key: str

    @property
    def known(self) -> dict[Place, Answer]:
        return read_answers(Artifacts(self.context.settings.home).replay_answers(self.key))

    @property
    def characters(self) -> int:
        return sum(len(answer.text or "") for answer in self.known.values())

    async def finished(self) -> int:
        return (await self.gateway.engines["rune0"].vllm.activity()).finished_total

    def answers(self, budget_s: float = BUDGET_S) -> BaseAnswers:
        return BaseAnswers(self.context, budget_s)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.gates.QUIET_S", 0.0)


@pytest.fixture
async def asking(settings: Settings, admin: Pool, client: Client, tmp_path: Path) -> AsyncIterator[Asking]:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    write_manifest(Artifacts(settings.home).manifest("sha256:m"))
    async with gateway_over(settings, admin, folder, finish="stop", token_s=0.002) as gateway:
        await gateway.serves(BASE)
        await open_gate(gateway.settings, "rune0").open()  # an earlier test may have left the anvil leased
        pool = await open_pool(settings.database_url("forge"), "forge")
        configuration = load_configuration(gateway.settings)
        context = ServiceContext("forge", gateway.settings, pool, client, configuration)
        base = await Bases(gateway.settings, configuration).get(BASE)
        yield Asking(gateway, context, await harvested(admin), answers_key(base.digest))
        await pool.close()


def write_manifest(folder: Path) -> None:
    (folder / "train").mkdir(parents=True)
    answer = "x" * (TRAINED - 2)  # and the quotes
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}], "prompt": "full"}
    lines = (json.dumps({"id": f"r{number}", **row}) + "\n" for number in range(ROWS))
    (folder / "train" / "00000.jsonl").write_text("".join(lines))


async def test_the_base_is_asked_for_what_the_share_needs_and_never_for_the_same_again(
    asking: Asking, admin: Pool
) -> None:
    need = load_recipe("default").replay * ROWS * TRAINED * MARGIN
    answers = asking.answers()

    async def are_enough() -> bool:
        await answers.run()
        return asking.characters >= need

    await eventually(are_enough, 20, "the base has answered as often as the share needs")

    known, characters = asking.known, asking.characters
    assert need <= characters < need + AT_ONCE * 500
    assert {prompt for prompt, _ in known} == set(range(len(known))), "in the order of the prompts, without a gap"
    assert {list_prompts()[prompt].is_text for prompt, _ in known} == {True, False}
    assert all(answer.text for answer in known.values())

    finished = await asking.finished()
    await asking.answers().run()
    assert (await asking.finished(), asking.known) == (finished, known), "another ritual on this base uses them too"


async def test_nobody_is_asked_without_a_budget_or_a_waiting_ritual(asking: Asking, admin: Pool) -> None:
    await asking.answers(budget_s=0).run()
    await evacuated(admin, asking.ritual)
    await asking.answers().run()

    assert not asking.known and await asking.finished() == 0


async def test_nobody_is_asked_for_a_ritual_whose_intent_takes_no_replay(asking: Asking, admin: Pool) -> None:
    await admin.execute("""UPDATE ritual SET intent = intent || '{"overrides": {"replay": 0}}'""")
    await asking.answers().run()

    assert not asking.known


async def test_a_budget_that_is_used_up_ends_the_asking(asking: Asking) -> None:
    answers = asking.answers(budget_s=0.01)

    for _ in range(3):
        await answers.run()

    assert len(asking.known) == AT_ONCE


async def test_a_client_who_asks_is_answered_and_the_forge_stops(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_base, "MARGIN", 100.0)
    async with asking.gateway.client() as client:
        running = asyncio.create_task(asking.answers().run())
        await eventually(lambda: asyncio.sleep(0, bool(asking.known)), 20, "the first answers are there")
        answer = await client.chat.completions.create(
            model=BASE, messages=[{"role": "user", "content": "hello"}], max_tokens=5
        )
        await asyncio.wait_for(running, 5)

    assert answer.choices[0].message.content
    state = await open_gate(asking.gateway.settings, "rune0").admission()
    assert (state.admitted_total, state.in_flight, state.low_priority) == (1, 0, 0), "clients alone count"
    assert asking.characters < load_recipe("default").replay * ROWS * TRAINED * 10


async def test_a_closed_gate_is_no_error_and_counts_against_no_budget(asking: Asking) -> None:
    gate, answers = open_gate(asking.gateway.settings, "rune0"), asking.answers()
    await gate.close("training scribe", 60)
    await answers.run()
    assert not asking.known and (await gate.admission()).refused_total == 0

    await gate.open()
    await answers.run()
    assert asking.known


async def test_a_base_that_cannot_be_asked_now_ends_the_asking_for_its_own_rituals_alone(
    asking: Asking, admin: Pool
) -> None:
    personas = {"poet": PersonaConfig(base="another")}
    configuration = asking.context.configuration.model_copy(update={"personas": personas})
    for persona in ("scribe", "poet"):
        await harvested(admin, persona, f"another of {persona}")
    asked = list[str]()

    class Away(BaseAnswers):
        async def _ask_for(self, ritual: Ritual) -> None:
            asked.append(ritual.persona)
            raise NotNow

    await Away(replace(asking.context, configuration=configuration), BUDGET_S).run()
    assert sorted(asked) == ["poet", "scribe"]


async def test_a_request_that_is_refused_for_good_ends_the_asking_for_that_ritual(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = asking.answers()
    with monkeypatch.context() as wrong:
        wrong.setattr(ask_base, "SAMPLING", SAMPLING.model_copy(update={"max_tokens": "many"}))
        await answers.run()
    await answers.run()

    assert not asking.known


async def test_all_attempts_of_a_ritual_train_with_the_answers_that_the_first_one_found(
    asking: Asking, tmp_path: Path
) -> None:
    await asking.answers().run()
    known = asking.known

    first = await plan_of(asking, tmp_path)
    append_answers(Artifacts(asking.context.settings.home).replay_answers(asking.key), [make_answer((9, 9), "x", True)])
    again = await plan_of(asking, tmp_path)

    job = first.values
    assert isinstance(job, TrainerJob) and job.replay in first.inputs and job.replay
    assert read_answers(job.replay) == known and len(asking.known) == len(known) + 1
    assert job.replay_digest == digest_file(job.replay)
    assert again.values == job


async def test_answers_that_cannot_be_trusted_cost_no_ritual(asking: Asking, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    append_answers(elsewhere, [make_answer((1, 0), "Yes.", True)])
    Artifacts(asking.context.settings.home).replay_answers(asking.key).symlink_to(elsewhere)

    job = (await plan_of(asking, tmp_path)).values

    assert isinstance(job, TrainerJob) and job.replay and read_answers(job.replay) == {}


async def plan_of(asking: Asking, output: Path) -> JobPlan:
    ritual = await ledger.get_ritual(asking.context.pool, asking.ritual)
    assert ritual
    Artifacts(asking.context.settings.home).runs(ritual.id).mkdir(parents=True, exist_ok=True)
    plan = await Forge(asking.context).plan(ritual, Lease("anvil0", ritual.id, 1, 7, True))
    return plan(output)


async def test_the_handler_wakes_the_loop(asking: Asking) -> None:
    answers = asking.answers()
    counts = {"train": 1, "dev": 1, "held_out": 1, "seen": 3}
    fact = KarmaHarvested(
        ritual=asking.ritual, persona="scribe", manifest="sha256:m", holdout="sha256:h", excluded={}, **counts
    )

    await karma_harvested(fact, answers.woken)

    assert answers.loop().woken and answers.woken.is_set()
