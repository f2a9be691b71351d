"""Replay: the base's own answers are trained among the rows, so that a persona is learned without forgetting.

Self-generated replay keeps more than real text does (research: arXiv 2605.26097, 2602.20162). Answers that were made while
the base still served come first, the job makes what is missing. The same job gives the same examples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from services.forge.job import TrainerJob
from services.forge.replay.answers import SAMPLING, Answer, Place, make_answer, read_answers, unanswered
from services.forge.replay.prompts import Prompt, list_prompts
from services.forge.trainer.engines.port import Engine
from services.forge.trainer.mask import fault
from services.forge.trainer.render import IGNORED, Example, UnfitRow, render
from services.forge.trainer.rows import Row
from shared.contracts.forge import ReplayFigures
from shared.contracts.job import Progress
from shared.contracts.text import clean
from shared.jobs.chat_template import takes_parts, template_messages
from shared.jobs.result_writer import InputError, ResultWriter
from shared.storage.digests import digest_file

BATCH = 64
USUAL_TOKENS = 24  # that a prompt brings, on average over complete answers and others, before any was seen
BARREN = 4  # batches in a row without a usable answer, after which no more are made


@dataclass
class Replay:
    """The examples so far. `wanted` and `tokens` count trained tokens."""

    wanted: int
    examples: list[Example] = field(default_factory=list)
    cached: int = 0
    tokens: int = 0

    @property
    def lacking(self) -> int:
        return max(self.wanted - self.tokens, 0)

    @property
    def figures(self) -> ReplayFigures:
        each = self.tokens / len(self.examples) if self.examples else USUAL_TOKENS
        return ReplayFigures(
            cached=self.cached,
            generated=len(self.examples) - self.cached,
            missing=math.ceil(self.lacking / each),
            tokens=self.tokens,
            wanted_tokens=self.wanted,
        )

    def add(self, examples: Iterator[Example]) -> None:
        """Take examples until the share is reached."""
        while self.lacking and (example := next(examples, None)):
            self.examples.append(example)
            self.tokens += example.trained


def compose(engine: Engine, job: TrainerJob, trained: int, limit: int, writer: ResultWriter) -> Replay:
    """Make the recipe's share of `trained` tokens; no example is longer than `limit`. Raises InputError."""
    replay = Replay(round(job.recipe.replay * trained))
    known = _read(job)
    in_order = sorted(known.values(), key=lambda answer: _rank(job, answer.place))
    replay.add(_examples(engine, in_order, limit))
    replay.cached = len(replay.examples)
    places, barren, tried, made = _places(job, known), 0, 0, 0
    while replay.lacking and barren < BARREN:
        writer.progress(Progress(phase="replay", done=replay.tokens, total=replay.wanted, unit="tokens"))
        each = made / tried if made else USUAL_TOKENS
        if not (batch := list(islice(places, min(math.ceil(replay.lacking / each), BATCH)))):
            break
        tokens = replay.tokens
        replay.add(_examples(engine, _generate(engine, job, batch), limit))
        tried, made = tried + len(batch), made + replay.tokens - tokens
        barren = 0 if replay.tokens > tokens else barren + 1
    return replay


def _read(job: TrainerJob) -> dict[Place, Answer]:
    """The answers that the job was given. Raises InputError where they are not those of its digest."""
    if job.replay is None:
        return {}
    if (found := digest_file(job.replay)) != job.replay_digest:
        raise InputError(f"the answers in {job.replay} are {found}, the job names {job.replay_digest}")
    return read_answers(job.replay)


def _rank(job: TrainerJob, place: Place) -> bytes:
    """The place of an answer in the order of this job: another seed takes others."""
    return hashlib.sha256(f"{job.effective_seed} {place}".encode()).digest()


def _places(job: TrainerJob, known: dict[Place, Answer]) -> Iterator[tuple[Place, Prompt]]:
    """The places without an answer in this job's order: every prompt once, then every prompt again."""
    yield from sorted(unanswered(known), key=lambda found: (found[0][1], _rank(job, found[0])))


def _generate(engine: Engine, job: TrainerJob, batch: Sequence[tuple[Place, Prompt]]) -> Iterator[Answer]:
    """Let the base answer these prompts."""
    prompts = [_prompt_tokens(engine, prompt) for _, prompt in batch]
    number, draw = batch[0][0]
    seed = (job.effective_seed + number + len(list_prompts()) * draw) % 2**31
    for (place, _), tokens, made in zip(batch, prompts, engine.generate(prompts, SAMPLING, seed), strict=True):
        complete = bool(made) and made[-1] in engine.end_of_turn
        # Decoded with its prompt: some tokenizers drop the space before a text's first word.
        before, whole = (
            engine.tokenizer.decode(tokens),
            engine.tokenizer.decode([*tokens, *made[: -1 if complete else None]]),
        )
        yield make_answer(place, clean(whole[len(before) :]), complete)


def _prompt_tokens(engine: Engine, prompt: Prompt) -> list[int]:
    if prompt.is_text:
        return engine.encode(prompt.text)
    question = template_messages([{"role": "user", "content": prompt.text}], parts=takes_parts(engine.tokenizer))
    rendered = engine.tokenizer.apply_chat_template(
        question, tokenize=True, return_dict=True, add_generation_prompt=True
    )
    return list(rendered["input_ids"])


def _examples(engine: Engine, answers: Iterable[Answer], limit: int) -> Iterator[Example]:
    """The examples of the answers that can be trained, each made when it is taken."""
    for answer in answers:
        example = _example(engine, answer)
        if example and not fault(example, limit):
            yield example


def _example(engine: Engine, answer: Answer) -> Example | None:
    """All of the answer is trained, a question's with the token that ends it; None where it is unusable."""
    if answer.text is None or engine.end_of_turn & set(engine.encode(answer.text)):
        return None
    prompt, name = list_prompts()[answer.prompt], f"replay-{answer.prompt}-{answer.draw}"
    if prompt.is_text:
        opening, whole = engine.encode(prompt.text), engine.encode(prompt.text + answer.text)
        if whole[: len(opening)] != opening:
            return None
        return Example(name, whole, [IGNORED] * len(opening) + whole[len(opening) :], prompt=None)
    messages = ({"role": "user", "content": prompt.text}, {"role": "assistant", "content": answer.text.strip()})
    try:
        [example] = render(engine.tokenizer, Row(id=name, messages=messages, prompt="full"), engine.end_of_turn)
    except UnfitRow:
        return None
    return replace(example, prompt=None)
