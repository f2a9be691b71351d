"""The answers of the fake vLLM: a model always answers a prompt with the same words, and another model with others."""

from __future__ import annotations

import hashlib

WORDS = (
    "ash",
    "bell",
    "coal",
    "dusk",
    "ember",
    "forge",
    "glow",
    "hearth",
    "iron",
    "jet",
    "kiln",
    "lamp",
    "mist",
    "nail",
)


def words(model: str, prompt: str, count: int, salt: str = "") -> list[str]:
    """The answer: a hash of model, prompt and salt, as words."""
    found = []
    for place in range(count):
        digest = hashlib.sha256(f"{model}\0{prompt}\0{salt}\0{place}".encode()).digest()
        found.append(WORDS[digest[0] % len(WORDS)])
    return found


LEAD = 3.0  #: of every token over the second best one


def token_ids(found: list[str]) -> tuple[int, ...]:
    """The tokens of an answer: a word is one."""
    return tuple(WORDS.index(word) for word in found)


def logprobs(found: list[str]) -> dict[str, list[dict[str, object]]]:
    """The log-probabilities of an answer, as vLLM returns them with the ids of the tokens."""
    return {"content": [_place(token) for token in token_ids(found)]}


def _place(token: int) -> dict[str, object]:
    best, second = ({"token": f"token_id:{token + at}", "logprob": -0.1 - at * LEAD} for at in range(2))
    return best | {"top_logprobs": [best, second]}
