"""MinHash bands: the same everywhere, shared by what is alike, and words read as admission reads them."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.harvester.policy import LikenessPolicy
from services.harvester.scan.minhash import bands, jaccard, shingles
from shared.config.settings import PROJECT

FOX = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]


def text(seed: int, length: int = 120) -> list[str]:
    return [f"w{number}" for number in random.Random(seed).choices(range(20_000), k=length)]


def altered(original: list[str], positions: int, seed: int) -> list[str]:
    changed = list(original)
    for place in random.Random(seed).sample(range(len(changed)), positions):
        changed[place] = f"other{seed}-{place}"
    return changed


def caught(positions: int, trials: int = 400) -> tuple[float, float]:
    """(mean Jaccard similarity, share of pairs with a band in common) of texts that differ in some words."""
    pairs = [(text(seed), altered(text(seed), positions, seed)) for seed in range(trials)]
    likeness = [jaccard(shingles(a), shingles(b)) for a, b in pairs]
    shared = [bool(set(bands(a)) & set(bands(b))) for a, b in pairs]
    return sum(likeness) / trials, sum(shared) / trials


def test_bands_of_a_text_never_change() -> None:
    assert bands(FOX)[:3] == [-5731887101875040279, -8022472816728398440, 83474218416484147]


def test_bands_are_the_same_in_another_process() -> None:
    code = f"from services.harvester.scan.minhash import bands; print(bands({FOX!r}))"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.strip() == str(bands(FOX))


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=8), max_size=30))
def test_any_words_give_sixteen_numbers_that_postgres_can_store(some: list[str]) -> None:
    numbers = bands(some)
    assert len(numbers) == (16 if some else 0)
    assert all(-(2**63) <= number < 2**63 for number in numbers)


def test_a_pair_of_nine_tenths_is_practically_never_missed() -> None:
    likeness, share = caught(positions=2)
    assert 0.88 < likeness < 0.92
    assert share >= 0.99


def test_a_pair_at_the_threshold_is_caught_as_often_as_the_method_promises() -> None:
    likeness, share = caught(positions=5)
    promised = 1 - (1 - likeness**8) ** 16
    assert 0.76 < likeness < 0.80
    assert abs(share - promised) < 0.06


def test_different_texts_share_no_band() -> None:
    everything = [set(bands(text(seed))) for seed in range(500)]
    assert sum(len(one) for one in everything) == len(set().union(*everything))


def test_texts_shorter_than_a_shingle_are_compared_whole() -> None:
    assert shingles(["yes"]) == ["yes"]
    assert shingles(["oh", "yes"]) == ["oh yes"]
    assert shingles([]) == []
    assert bands(["yes"]) == bands(["yes"]) != bands(["no"])


def test_jaccard_counts_sets() -> None:
    assert jaccard("abcd", "bcde") == pytest.approx(3 / 5)
    assert jaccard("aab", "ab") == 1.0
    assert jaccard("", "") == 0.0


def test_the_policy_refuses_a_threshold_that_means_nothing() -> None:
    with pytest.raises(ValueError):
        LikenessPolicy(jaccard=0)
    with pytest.raises(ValueError):
        LikenessPolicy(cosine=1.2)
