"""A ritual without training: what the short jobs of fakes/ hand out, made for a stack that is up.

The adapter is written by hand, the evaluation is made up so that it promotes, and the answers to the probes are those that the
stack's own rune gives with that adapter. The servers, the services, the rune and every check on the way are real.
"""

from __future__ import annotations

import shutil

from deploy.ritual import UNSEEN
from services.verifier.results import RESULTS_FILE, Results
from shared.config.settings import PROJECT
from shared.config.tables import EMBEDDED_BASE
from shared.contracts.verify import Probe
from shared.drivers.inference.port import PromptMessage
from shared.drivers.inference.vllm import Vllm
from tests.support.adapters import save_adapter
from tests.support.evaluations import promoted
from tests.support.fakes.holding import REHEARSAL
from tests.support.running import Stack

PERSONA = "scribe"
KARMA = PROJECT / "examples" / "karma" / f"{PERSONA}.jsonl"
NAME = "rehearsal"
ANSWER_TOKENS = 24


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
    probes = [await _probe(rune, EMBEDDED_BASE, prompt) for prompt in UNSEEN[PERSONA]]
    found = promoted().model_copy(update={"probes": tuple(probes)})
    (REHEARSAL / RESULTS_FILE).write_text(found.model_dump_json())


async def _probe(rune: Vllm, base: str, prompt: str) -> Probe:
    messages = (PromptMessage(role="user", content=prompt),)
    one, other = [await rune.answer(model, messages, ANSWER_TOKENS) for model in (base, NAME)]
    assert one != other, "the adapter changes the answers"
    return Probe(prompt=prompt, base=one, candidate=other)


async def assert_persona_serves(stack: Stack) -> None:
    """The persona answers with the adapter, the base without it, and no ritual holds the anvil."""
    conn = await stack.connect()
    version = await conn.fetchval("SELECT champion FROM registry.alias WHERE persona = $1", PERSONA)
    held_by = await conn.fetchval("SELECT ritual FROM lease")
    await conn.close()

    assert held_by is None
    rune = Vllm(stack.rune_url)
    assert version in await rune.models()
    for probe in Results.model_validate_json((REHEARSAL / RESULTS_FILE).read_bytes()).probes:
        messages = (PromptMessage(role="user", content=probe.prompt),)
        assert await rune.answer(version, messages, ANSWER_TOKENS) == probe.candidate
        assert await rune.answer(EMBEDDED_BASE, messages, ANSWER_TOKENS) == probe.base
