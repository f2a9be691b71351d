"""Replay: the base's own answers beside the rows, up to the recipe's share, and the same for the same job."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.forge.job import TrainerJob
from services.forge.replay.answers import DRAWS, SAMPLING, Answer, Sampling, to_lines
from services.forge.replay.prompts import list_prompts
from services.forge.trainer.mask import audit
from services.forge.trainer.render import IGNORED, render
from services.forge.trainer.replay import BARREN, BATCH, Replay, compose
from services.forge.trainer.rows import read_rows
from shared.config.recipe import Recipe
from shared.contracts.forge import ReplayFigures
from shared.jobs.result_writer import InputError, ResultWriter
from shared.storage.base_model import Base
from shared.storage.digests import digest_file, digest_tree
from tests.unit.forge.letters import END, Letters

SHARE = 0.2
LIMIT = 2048
SAID = "It is a plain answer of the base, which it has given by itself."


class FakeEngine:
    """A base whose tokens are letters, and which answers every prompt with the same words; each `cut`-th answer has no end."""

    def __init__(self, said: str = SAID, cut: int = 0) -> None:
        self.tokenizer, self.end_of_turn = Letters(), frozenset({END})
        self.said, self.cut = said, cut
        self.batches: list[tuple[int, int]] = []

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, seed: int) -> list[list[int]]:
        assert sampling == SAMPLING
        self.batches.append((len(prompts), seed))
        said = self.encode(self.said)
        return [said if self.cut and at % self.cut == 0 else [*said, END] for at in range(len(prompts))]


Composed = Callable[..., Replay]


@pytest.fixture
def composed(tmp_path: Path) -> Composed:
    """Compose for rows with so many trained tokens; `answers` were made before, the other arguments replace fields of the job."""

    def composed(
        engine: Any, trained: int, answers: Sequence[Answer] = (), limit: int = LIMIT, **replaced: Any
    ) -> Replay:
        file = tmp_path / "replay.jsonl"
        file.write_text(to_lines(answers))
        values: dict[str, Any] = {
            "ritual": "r",
            "attempt": 1,
            "fence": 1,
            "base": Base(name="b", path=tmp_path, digest="sha256:b"),
            "manifest_dir": tmp_path,
            "manifest_digest": "",
            "recipe": Recipe(replay=SHARE),
            "replay": file,
            "replay_digest": digest_file(file),
            "output": tmp_path,
        }
        return compose(engine, TrainerJob(**(values | replaced)), trained, limit, ResultWriter(tmp_path))

    return composed


def answers_to(count: int, draws: int = 1) -> list[Answer]:
    return [Answer(prompt=number, draw=draw, text=SAID) for draw in range(draws) for number in range(count)]


def test_only_what_the_base_said_is_trained_and_a_question_s_end_with_it(composed: Composed) -> None:
    replay = composed(FakeEngine(), 50_000, answers_to(100))

    assert replay.cached == 100 and len(replay.examples) > 100
    for example in replay.examples:
        prompt = list_prompts()[int(example.id.split("-")[1])]
        trained = "".join(chr(label) for label in example.labels if label != IGNORED)
        assert trained == (SAID if prompt.is_text else SAID + "$")
        assert "".join(map(chr, example.input_ids)).startswith(
            prompt.text if prompt.is_text else f"user>{prompt.text}$"
        )
        assert len(example.labels) == len(example.input_ids) and example.prompt is None


def test_the_share_is_of_the_trained_tokens_of_a_manifest_of_5000_rows(composed: Composed, tmp_path: Path) -> None:
    trained = trained_tokens_of(tmp_path / "manifest", 5000)
    engine = FakeEngine(cut=4)

    replay = composed(engine, trained, answers_to(500))

    wanted = round(SHARE * trained)
    assert trained > 5000 * 60 and replay.figures == ReplayFigures(
        cached=500,
        generated=len(replay.examples) - 500,
        missing=0,
        tokens=sum(example.trained for example in replay.examples),
        wanted_tokens=wanted,
    )
    assert wanted <= replay.tokens < wanted + 100, "it is reached, by no more than one answer"
    assert replay.figures.generated > 0 and replay.figures.warning is None
    assert len({example.id for example in replay.examples}) == len(replay.examples)


def test_with_all_answers_at_hand_the_job_makes_none(composed: Composed, tmp_path: Path) -> None:
    engine = FakeEngine()

    replay = composed(engine, trained_tokens_of(tmp_path / "manifest", 5000), answers_to(len(list_prompts())))

    assert (replay.figures.generated, replay.figures.missing, engine.batches) == (0, 0, [])


def test_the_same_job_has_the_same_examples_and_another_seed_takes_others(composed: Composed) -> None:
    known = answers_to(150)
    first, again, other = (composed(FakeEngine(cut=3), 60_000, known, seed=seed) for seed in (1, 1, 2))

    assert first.examples == again.examples and first.figures == again.figures
    assert [example.id for example in first.examples[:50]] != [example.id for example in other.examples[:50]]
    assert first.cached == other.cached == 150 < len(first.examples)


def test_each_batch_is_sampled_by_a_seed_of_its_own(composed: Composed) -> None:
    engine = FakeEngine(cut=2)

    composed(engine, 60_000)

    sizes, seeds = zip(*engine.batches, strict=True)
    assert max(sizes) == BATCH and len(set(seeds)) == len(seeds) > 2


def test_a_small_share_is_made_in_one_small_batch(composed: Composed) -> None:
    engine = FakeEngine()

    replay = composed(engine, 500)

    assert [size for size, _ in engine.batches] == [5] and replay.figures.generated == 2


def test_known_answers_that_are_unusable_are_neither_trained_nor_asked_for_again(composed: Composed) -> None:
    unusable = [
        Answer(prompt=0, draw=0, text=None),
        *(Answer(prompt=number, draw=0, text="one$two") for number in range(1, 9)),
    ]

    replay = composed(FakeEngine(), 900_000, unusable)

    made = {tuple(map(int, example.id.split("-")[1:])) for example in replay.examples}
    assert not {(number, 0) for number in range(9)} & made
    assert {(number, 1) for number in range(9)} & made or len(made) < len(list_prompts())


def test_a_base_that_never_ends_gives_texts_alone_and_one_that_says_nothing_a_warning(composed: Composed) -> None:
    endless = composed(FakeEngine(cut=1), 50_000)
    assert not endless.figures.missing
    assert all(list_prompts()[int(example.id.split("-")[1])].is_text for example in endless.examples)

    engine = FakeEngine(said="")
    silent = composed(engine, 50_000, answers_to(10))
    assert len(engine.batches) == BARREN
    assert (silent.figures.cached, silent.figures.generated) == (10, 0)
    assert silent.figures.missing == pytest.approx((10_000 - silent.tokens) / (silent.tokens / 10), abs=1)
    assert "about" in str(silent.figures.warning)


def test_an_answer_longer_than_any_row_may_be_is_left_out(composed: Composed) -> None:
    assert composed(FakeEngine(), 5000, answers_to(20), limit=60).figures.cached == 0


def test_no_share_is_no_replay(composed: Composed) -> None:
    engine = FakeEngine()

    assert composed(engine, 5000, answers_to(20), recipe=Recipe(replay=0.0)).figures == ReplayFigures()
    assert not engine.batches


def test_other_answers_than_the_job_names_are_refused(composed: Composed) -> None:
    with pytest.raises(InputError, match="the job names sha256:other"):
        composed(FakeEngine(), 5000, replay_digest="sha256:other")


def test_a_share_beyond_all_prompts_asks_them_again(composed: Composed) -> None:
    engine = FakeEngine(said="x" * 900)

    replay = composed(engine, 4_600_000 * 3)

    draws = {int(example.id.split("-")[2]) for example in replay.examples}
    assert replay.figures.missing == 0 and len(replay.examples) > len(list_prompts())
    assert draws == {0, 1} and max(draws) < DRAWS


def trained_tokens_of(manifest: Path, rows: int) -> int:
    (manifest / "train").mkdir(parents=True)
    with (manifest / "train" / "00000.jsonl").open("w") as shard:
        for number in range(rows):
            messages = [
                {"role": "user", "content": f"Note about item {number}."},
                {
                    "role": "assistant",
                    "content": f"Note | item {number}\n- It was noted on that day.\nNext: look after it.",
                },
            ]
            shard.write(json.dumps({"id": f"r{number}", "messages": messages, "prompt": "full"}) + "\n")
    train, _ = read_rows(manifest, digest_tree(manifest))
    examples = [example for row in train for example in render(Letters(), row, {END})]
    return audit(Letters(), examples, {}, {}, LIMIT)[1].trained_tokens
