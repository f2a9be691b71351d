"""A ritual without training: what the short jobs of fakes/ hand out, made for a stack that is up.

The adapter is written by hand, the evaluation is made up so that it promotes, and the answers to the probes are those that the
stack's own rune gives with that adapter. The servers, the services, the rune and every check on the way are real.
"""

from __future__ import annotations

import shutil

from services.registry.binding import prove
from services.verifier.results import RESULTS_FILE, Results
from shared.config.settings import PROJECT
from shared.config.tables import EMBEDDED_BASE
from shared.drivers.inference.vllm import Vllm
from tests.support.adapters import save_adapter
from tests.support.evaluations import promoted
from tests.support.fakes.holding import REHEARSAL
from tests.support.probes import ask_probes
from tests.support.running import Stack

PERSONA = "scribe"
KARMA = PROJECT / "examples" / "karma" / f"{PERSONA}.jsonl"
NAME = "rehearsal"


async def prepare(stack: Stack) -> None:
    """Import the persona's karma, and write what its short jobs hand out."""
    imported = stack.run("karma", "import", str(KARMA))
    assert imported.returncode == 0, imported.stderr
    shutil.rmtree(REHEARSAL, ignore_errors=True)
    REHEARSAL.mkdir(parents=True)
    # Strong enough to change every answer.
    adapter = save_adapter(REHEARSAL / "adapter", value=2.0)
    rune = Vllm(stack.rune_url)
    await rune.load(NAME, adapter)
    probes = await ask_probes(rune, EMBEDDED_BASE, NAME)
    found = promoted().model_copy(update={"probes": probes})
    (REHEARSAL / RESULTS_FILE).write_text(found.model_dump_json())


async def assert_persona_serves(stack: Stack) -> None:
    """The persona answers with the adapter, the base without it, and no ritual holds the anvil."""
    conn = await stack.connect()
    version = await conn.fetchval("SELECT champion FROM registry.alias WHERE persona = $1", PERSONA)
    held_by = await conn.fetchval("SELECT ritual FROM lease")
    await conn.close()

    assert held_by is None
    rune = Vllm(stack.rune_url)
    assert version in await rune.models()
    probes = Results.model_validate_json((REHEARSAL / RESULTS_FILE).read_bytes()).probes
    assert (await prove(rune, version, probes)).proven
    assert not (await prove(rune, EMBEDDED_BASE, probes)).proven
