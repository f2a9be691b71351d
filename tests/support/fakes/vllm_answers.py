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
