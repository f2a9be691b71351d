"""Every shipped recipe makes an adapter that the real vLLM takes and answers with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.services import load_configuration
from services.forge.job import ADAPTER_DIR
from services.orchestrator.engine import Condition, Rune
from shared.config.recipe import SHIPPED, load_recipe
from shared.config.tables import EMBEDDED_BASE
from shared.contracts.forge import EngineName
from shared.drivers.containers.process import ProcessContainers
from shared.drivers.inference.open import open_gate, open_rune
from shared.drivers.inference.port import PromptMessage
from tests.support.configurations import configured
from tests.support.fakes.engines import until
from tests.support.model import MODEL, needs_jobs, require_unsloth
from tests.support.servers import House
from tests.support.training import ROWS, finish, pair_row, planned, row, start, write_manifest

NAMES = sorted(file.stem for file in SHIPPED.glob("*.toml"))
START_S = 240.0
ASKED = (PromptMessage(role="user", content="What comes after 3?"),)

pytestmark = [needs_jobs, pytest.mark.extended, pytest.mark.timeout(1800)]


@pytest.fixture
async def rune(house: House, tmp_path: Path) -> AsyncIterator[Rune]:
    settings = configured(house.settings, tmp_path).model_copy(update={"models": MODEL.parent})
    configuration, containers = load_configuration(settings), ProcessContainers(settings.containers_dir)
    engine, gate = open_rune(configuration, settings, "rune"), open_gate(settings, "rune")
    one = Rune("rune", settings, configuration, containers, engine, gate)
    yield one
    await one.stop()


async def test_an_adapter_of_every_shipped_recipe_is_taken_and_answers(rune: Rune, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    rows = [row(number, why="It is short.") for number in range(ROWS)]
    digest = write_manifest(manifest, rows, [row(77)], pairs=[pair_row(number) for number in range(ROWS)])
    for name in NAMES:
        recipe = load_recipe(name)
        engine: EngineName = "unsloth" if recipe.method == "qlora" else "trl"
        if engine == "unsloth":
            require_unsloth()
        job = planned(manifest, digest, tmp_path / name, recipe=recipe, engine=engine)
        status, result = finish(job, start(job))
        assert (status, result.error) == (0, None), name
    await rune.start()

    async def answers() -> bool:
        condition = await rune.condition()
        assert condition in (Condition.STARTING, Condition.SERVING), await rune.containers.logs(rune.container)
        return condition is Condition.SERVING

    await until(answers, START_S)
    base = await rune.inference.answer(EMBEDDED_BASE, ASKED, 8)
    for name in NAMES:
        await rune.inference.load(f"{name}@1", tmp_path / name / ADAPTER_DIR)
        answer = await rune.inference.answer(f"{name}@1", ASKED, 8)
        print(f"{name}: {answer!r} (base: {base!r})")
        assert answer, name
