"""Probes as the evaluator would have measured them: of the small engine, whose answers are known, and of a real one that is asked."""

from __future__ import annotations

import json

from shared.contracts.probe import LEAST_PROBES, Distance, Probe, distance
from shared.drivers.inference.port import PromptMessage
from shared.drivers.inference.vllm import Vllm
from tests.support.fakes.vllm_answers import LEAD, token_ids, words

TOKENS = 16
SUBJECTS = ("an anvil", "a bell", "a candle", "a door", "an ember", "a forge")
PROMPTS = tuple(f"Tell a story of {subject}." for subject in SUBJECTS)
assert len(PROMPTS) == LEAST_PROBES
FAR = Distance(nats=5, tokens=1)


def probe(prompt: str, tokens: tuple[int, ...] = (1, 2, 3), champion: Distance | None = None) -> Probe:
    return Probe(prompt=prompt, answer="", tokens=tokens, leads=(LEAD,) * len(tokens), base=FAR, champion=champion)


def fake_probes(version: str) -> tuple[Probe, ...]:
    """Of a version on the small engine: its answers depend on the model's name and the prompt only."""
    return tuple(_fake_probe(version, prompt) for prompt in PROMPTS)


def _fake_probe(version: str, prompt: str) -> Probe:
    found = words(version, json.dumps([{"content": prompt, "role": "user"}], sort_keys=True), TOKENS)
    return probe(prompt, token_ids(found))


async def ask_probes(engine: Vllm, base: str, name: str) -> tuple[Probe, ...]:
    """Of an adapter that a real engine has loaded under this name."""
    return tuple([await _ask_probe(engine, base, name, prompt) for prompt in PROMPTS])


async def _ask_probe(engine: Vllm, base: str, name: str, prompt: str) -> Probe:
    messages = (PromptMessage(role="user", content=prompt),)
    own = await engine.answer_tokens(name, messages, TOKENS)
    tokens = tuple(max(place.likeliest, key=place.likeliest.__getitem__) for place in own)
    leads = tuple(place.lead(token) for place, token in zip(own, tokens, strict=True))
    other = await engine.answer_tokens(base, messages, TOKENS)
    far = distance(leads, [place.lead(token) for place, token in zip(other, tokens, strict=False)])
    return Probe(prompt=prompt, answer="", tokens=tokens, leads=leads, base=far)
