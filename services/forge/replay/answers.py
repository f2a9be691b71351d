"""The base's answers to the prompts: asked once, kept in the Lab, and shared by all rituals on that base.

A file is append-only JSONL. Its name is the digest of all that its answers depend on: the base, the sampling, the
prompts. What is read is checked line by line, since a crash may have cut a line and anything may have changed the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import Field, ValidationError

from services.forge.replay.prompts import Prompt, list_prompts, prompts_digest
from shared.contracts.frozen import Frozen
from shared.storage.artifacts import sync
from shared.storage.digests import PREFIX
from shared.storage.untrusted import MIB, MissingOutput, read_bytes

LARGEST = 64 * MIB  #: bytes of a file: more than all prompts with all draws come to
LONGEST = 1000  #: characters of an answer
DRAWS = 16  #: answers to one prompt; further ones would add little that is new
Place = tuple[int, int]  #: a prompt's number, and which of its answers


class Sampling(Frozen):
    """How the base is sampled. Another value makes other answers, kept in another file."""

    temperature: float = 0.8
    top_k: int = 50
    max_tokens: int = 64


SAMPLING = Sampling()


class Answer(Frozen):
    """An answer of the base. `text` is None where it was empty or cut off: it is not used, and not asked for again."""

    prompt: int = Field(ge=0)
    draw: int = Field(ge=0, lt=DRAWS)
    text: str | None = Field(max_length=LONGEST)

    @property
    def place(self) -> Place:
        return self.prompt, self.draw


def make_answer(place: Place, text: str, complete: bool) -> Answer:
    """The answer at `place`. A question's must be complete; a plain text has no end, and is used as far as it goes."""
    number, draw = place
    usable = text.strip() and len(text) <= LONGEST and (complete or list_prompts()[number].is_text)
    return Answer(prompt=number, draw=draw, text=text if usable else None)


def answers_key(base_digest: str) -> str:
    """The digest of what answers depend on."""
    depends = {"base": base_digest, "sampling": SAMPLING.model_dump(), "prompts": prompts_digest()}
    return PREFIX + hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def read_answers(path: Path) -> dict[Place, Answer]:
    """The valid answers in a file, by place; none where there is no file. Raises OutputError unless it is a regular one in bounds."""
    try:
        data = read_bytes(path.parent, path.name, LARGEST)
    except MissingOutput:
        return {}
    found: dict[Place, Answer] = {}
    for line in data.splitlines():
        with suppress(ValidationError):
            answer = Answer.model_validate_json(line)
            if answer.prompt < len(list_prompts()):
                found.setdefault(answer.place, answer)
    return found


def append_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Add answers to a file; on return they are on the disk. Raises OSError."""
    # The first byte ends a line that a crash has cut.
    data = ("\n" + to_lines(answers)).encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


def to_lines(answers: Iterable[Answer]) -> str:
    return "".join(answer.model_dump_json() + "\n" for answer in answers)


def unanswered(known: dict[Place, Answer]) -> Iterator[tuple[Place, Prompt]]:
    """The places without an answer: every prompt once, then every prompt again."""
    for draw in range(DRAWS):
        for number, prompt in enumerate(list_prompts()):
            if (number, draw) not in known:
                yield (number, draw), prompt
