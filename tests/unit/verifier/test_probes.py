"""The choice of probes: those whose answers tell the candidate best from base and champion."""

from __future__ import annotations

from services.verifier.evaluator.probes import choose, list_prompts, tells_apart
from services.verifier.reconcile import about_probes
from shared.contracts.probe import LEAST_PROBES, SAME_MODEL, Distance, Probe

FAR, NEAR = Distance(nats=10 * SAME_MODEL, tokens=1), Distance(nats=SAME_MODEL, tokens=1)


def made(base: Distance, champion: Distance | None = None, prompt: str = "p") -> Probe:
    return Probe(prompt=prompt, answer="", tokens=(1,), leads=(1.0,), base=base, champion=champion)


def away(nats: float, tokens: int = 1) -> Distance:
    return Distance(nats=nats, tokens=tokens)


def test_the_probes_whose_nearer_model_is_farthest_by_token_are_chosen() -> None:
    offered = [
        made(away(9), away(1), "near the champion"),
        made(away(4), away(5), "far from both"),
        made(away(12, tokens=12), away(9), "near the base"),
        made(away(3), away(3), "less far"),
    ]

    assert [probe.prompt for probe in choose(offered, 2)] == ["far from both", "less far"]


def test_a_candidate_is_told_apart_where_base_and_champion_are_twice_as_far_as_what_passes() -> None:
    assert tells_apart([made(FAR)]) and tells_apart([made(FAR, FAR)])
    assert not tells_apart([made(NEAR)])
    assert not tells_apart([made(FAR, NEAR)])
    assert tells_apart([made(NEAR), made(FAR)]), "what counts is the mean over the tokens of all"


def test_what_the_probes_cannot_prove_is_a_warning() -> None:
    assert about_probes((made(FAR, FAR),) * LEAST_PROBES) is None
    assert about_probes((made(FAR),) * LEAST_PROBES) is None
    assert "not the base, and no more" in (about_probes((made(FAR, NEAR),) * LEAST_PROBES) or "")
    assert "from the base's" in (about_probes((made(NEAR),) * LEAST_PROBES) or "")
    assert "from the base's" in (about_probes((made(FAR),) * (LEAST_PROBES - 1)) or "")


def test_the_pool_has_more_than_two_hundred_different_prompts() -> None:
    assert len(set(list_prompts())) == len(list_prompts()) == 240
    assert not [prompt for prompt in list_prompts() if "{" in prompt]
