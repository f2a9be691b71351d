"""The example karma is what its generators say, and is fit to show a whole ritual."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from examples.karma import coder, scribe
from examples.karma.__main__ import PERSONAS, lines
from services.harvester.policy import HarvestPolicy
from services.harvester.split import Split, join_groups, lineage_place, split_of
from shared.contracts.checks import passes
from shared.contracts.karma import KarmaRecord, Status

FOLDER = Path(scribe.__file__).parent
each_persona = pytest.mark.parametrize("persona", sorted(PERSONAS))


def answer(record: KarmaRecord) -> str:
    return record.messages[-1].content or ""


def prompt(record: KarmaRecord) -> str:
    return record.messages[1].content or ""


@each_persona
def test_the_committed_file_is_what_the_generator_writes(persona: str) -> None:
    assert (FOLDER / f"{persona}.jsonl").read_text(encoding="utf-8") == lines(PERSONAS[persona]())


@each_persona
def test_every_line_reads_back_as_the_same_record(persona: str) -> None:
    written = (FOLDER / f"{persona}.jsonl").read_text(encoding="utf-8").splitlines()
    assert tuple(KarmaRecord.model_validate_json(line) for line in written) == PERSONAS[persona]()


@each_persona
def test_every_consecrated_answer_passes_its_own_checks(persona: str) -> None:
    consecrated = [record for record in PERSONAS[persona]() if record.status is Status.WHITE_TRUTH]
    assert [record.id for record in consecrated if not passes(record.outcome.checks, answer(record))] == []


@each_persona
def test_every_disliked_answer_fails_the_checks_that_its_correction_passes(persona: str) -> None:
    records = {record.id: record for record in PERSONAS[persona]()}
    corrections = [record for record in records.values() if record.parent]
    assert len(corrections) >= 10
    for correction in corrections:
        parent = records[correction.parent or ""]
        assert parent.status is Status.SPECULATIVE
        assert prompt(parent) == prompt(correction)
        assert not passes(parent.outcome.checks, answer(parent))


@each_persona
def test_checks_tell_the_answers_of_different_prompts_apart(persona: str) -> None:
    """A rule that any answer in the right shape satisfied would reward an adapter that ignores the question."""
    truths = [record for record in PERSONAS[persona]() if record.status is Status.WHITE_TRUTH]
    pairs = list(zip(truths, truths[1:] + truths[:1], strict=True))
    wrong = [one for one, other in pairs if prompt(one) != prompt(other) and passes(one.outcome.checks, answer(other))]
    assert wrong == []


@each_persona
def test_some_records_must_not_be_used(persona: str) -> None:
    records = PERSONAS[persona]()
    statuses = Counter(record.status for record in records)
    truths = [record.messages for record in records if record.status is Status.WHITE_TRUTH]
    assert 0.08 <= statuses[Status.SPECULATIVE] / len(records) <= 0.13
    assert statuses[Status.REVOKED] >= 5
    assert len(truths) - len(set(map(repr, truths))) >= 5
    assert len({record.id for record in records}) == len(records)


@each_persona
def test_sessions_are_many_and_of_a_natural_length(persona: str) -> None:
    sessions = Counter(record.session for record in PERSONAS[persona]())
    assert len(sessions) >= 70
    assert set(sessions.values()) <= set(range(2, 7))


@each_persona
def test_the_split_leaves_enough_to_train_on_and_to_judge_by(persona: str) -> None:
    records = PERSONAS[persona]()
    shares = HarvestPolicy().split
    session_of = {record.id: record.session for record in records}
    lineage = join_groups((record.session, session_of[record.parent]) for record in records if record.parent)
    truths = {repr(r.messages): r for r in records if r.status is Status.WHITE_TRUTH}.values()
    places = [lineage_place(shares.key, persona, lineage.get(record.session, record.session)) for record in truths]
    counts = Counter(split_of(place, shares.holdout, shares.dev) for place in places)
    assert counts[Split.TRAIN] >= 120
    assert counts[Split.DEV] >= 10
    assert counts[Split.HOLDOUT] >= 35
    held = {record.session for record, place in zip(truths, places, strict=True) if place < shares.holdout}
    assert len(held) >= 10, "with fewer sessions, a few looks at the holdout wear it out"


def test_a_note_on_another_subject_is_not_house_style() -> None:
    style = scribe.house_style("Note", "boiler")
    assert passes(style, "Note | boiler\n- It hums.\n- Dan has the key.\nNext: call Dan.")
    assert not passes(style, "Note | bathtub\n- It hums.\n- Dan has the key.\nNext: call Dan.")
    assert not passes(style, "Summary | boiler\n- It hums.\n- Dan has the key.\nNext: call Dan.")
    assert not passes(style, "Note | boiler\n- It hums.\nNext: call Dan.")


def test_a_fenced_or_uncommented_command_is_not_the_idiom() -> None:
    idiom = tuple(coder.idiom(("uv add",)))
    assert passes(idiom, "# add it\nuv add httpx")
    assert not passes(idiom, "uv add httpx")
    assert not passes(idiom, "```sh\n# add it\nuv add httpx\n```")
    assert not passes(idiom, "# add it\npip install httpx")
