"""Lessons that a harvest keeps apart, near copies that it merges, contradictions that it records, logs that grow."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from services.harvester.embedding.embedder import Embedder
from services.harvester.embedding.keep import embed_missing
from services.harvester.policy import HarvestPolicy, Lengths, LikenessPolicy
from services.harvester.split import Split
from shared.config.settings import PROJECT
from shared.config.tables import JobsConfig
from shared.contracts.karma import ChatMessage, KarmaRecord, trained_turns
from shared.storage.artifacts import Artifacts
from shared.storage.postgres import Pool
from tests.support.harvests import (
    harvested,
    open_rows,
    reasons,
    record,
    remember,
    sealed_rows,
    session_on,
    side_of_session,
)

PYTHON = JobsConfig().python
VALVE = "May I open the valve while the pump runs?"
LETTER = (
    "请帮我给供应商写一封信，说明上周寄来的阀门有{}个漏水，我们希望在月底之前收到新的阀门，并且由对方支付邮费。"
    "信要写得客气而清楚，长度不要超过一页，最后请对方尽快回复。"
)
TRAIN = (name for name in map("talk-{}".format, count()) if side_of_session(name) is Split.TRAIN)

Message = dict[str, Any]


@pytest.fixture
async def embedder() -> AsyncIterator[Embedder]:
    async with Embedder(PYTHON, PROJECT) as one:
        yield one


def talk(id: str, *messages: Message, minute: int = 0, **values: Any) -> KarmaRecord:
    """A record in a session of its own that is trained."""
    chat = tuple(ChatMessage.model_validate(message) for message in messages)
    at = f"2026-05-01T08:{minute:02}:00Z"
    return record(id, values.pop("session", next(TRAIN)), "?", "!", messages=chat, created_at=at, **values)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def call(command: str, result: str) -> list[Message]:
    function = {"name": "sh", "arguments": json.dumps({"cmd": command})}
    called = {"id": "c", "type": "function", "function": function}
    return [{"role": "assistant", "tool_calls": [called]}, {"role": "tool", "tool_call_id": "c", "content": result}]


def answered(*answers: str, question: str = VALVE, **values: Any) -> list[KarmaRecord]:
    return [talk(f"n-{at}", user(question), answer(text), minute=at, **values) for at, text in enumerate(answers)]


async def left_out(pool: Pool, home: Path, records: Iterable[KarmaRecord], **likeness: Any) -> dict[str, str]:
    await remember(pool, records)
    await harvested(pool, home, policy=HarvestPolicy(likeness=LikenessPolicy(**{"by_meaning": False} | likeness)))
    return await reasons(pool)


async def contradictions(pool: Pool) -> list[tuple[str, str]]:
    return [tuple(row) for row in await pool.fetch("SELECT one, other FROM contradiction ORDER BY one, other")]


@pytest.mark.skipif(not PYTHON.is_file(), reason=f"needs the jobs environment at {PYTHON}")
async def test_with_embeddings_lessons_are_kept_in_scripts_that_the_model_does_not_know_and_with_other_calls(
    pool: Pool, tmp_path: Path, embedder: Embedder
) -> None:
    thai = [
        ("รถไฟออกกี่โมง", "หกโมงเย็นครับ"),
        ("ต้นไม้นี้ชื่ออะไร", "ต้นมะม่วงครับ"),
        ("ห้องสมุดปิดกี่โมง", "สองทุ่มครับ"),
        ("หนาวไหม", "วันนี้อุ่นครับ"),
    ]
    runs = [
        ("pytest tests/b.py", "KeyError at line 9"),
        ("npm run lint", "no-undef in app.js"),
        ("go vet ./...", "unused x"),
    ]
    records = [talk(f"thai-{at}", user(q), answer(a)) for at, (q, a) in enumerate(thai)]
    records += [
        talk(f"run-{at}", user("Make it pass."), *call(*run), answer("Done. It passes.")) for at, run in enumerate(runs)
    ]
    records += [
        talk("yes", user(VALVE), answer("Yes, open it.")),
        talk("no", user(VALVE), answer("No, do not open it.")),
    ]
    records += [talk("asked", user("Where do we keep the spare keys of the hall?"), answer("In the left drawer."))]
    records += [talk("reworded", user("Where are the spare keys of the hall kept?"), answer("In the left drawer."))]
    await remember(pool, records)
    while await embed_missing(pool, embedder, 100):
        pass

    assert await left_out(pool, tmp_path, [], by_meaning=True) in (
        {"asked": "near_duplicate"},
        {"reworded": "near_duplicate"},
    )
    assert await contradictions(pool) == [("no", "yes")]


async def test_three_questions_about_one_document_are_three_lessons(pool: Pool, tmp_path: Path) -> None:
    manual = " ".join(f"Page {page} of the manual has the valves and pumps of hall {page * 7}." for page in range(200))
    asked = {
        "Which hall has the press?": "Hall nine.",
        "Who greases the press?": "The fitter.",
        "Is oil kept there?": "Yes.",
    }
    records = [talk(q, user(f"{manual}\n{q}"), answer(a)) for q, a in asked.items()]

    assert await left_out(pool, tmp_path, records) == {}


async def test_a_near_copy_in_a_script_without_spaces_is_found_by_its_letters(pool: Pool, tmp_path: Path) -> None:
    records = answered(f"好的。{LETTER.format('四')}", f"好的。{LETTER.format('两')}", question=LETTER.format("四"))

    assert await left_out(pool, tmp_path, records) == {"n-1": "near_duplicate"}
    assert await pool.fetchval("SELECT repeats FROM exclusion WHERE reason = 'near_duplicate'") == "n-0"


async def test_a_near_copy_of_a_kept_record_may_not_cross_the_split_in_chinese_either(
    pool: Pool, tmp_path: Path
) -> None:
    sealed = talk("sealed", user("这封信怎么写？"), answer(LETTER.format("四")), session=session_on(Split.HOLDOUT))
    quoting = talk("quoting", user(f"请把这段话翻译成英文：{LETTER.format('四')}"), answer("Four valves leak."))

    assert await left_out(pool, tmp_path, [sealed, quoting]) == {"quoting": "contaminated"}


async def test_contradicting_answers_are_both_trained_and_make_no_preferences(pool: Pool, tmp_path: Path) -> None:
    wrong = talk("wrong", user(VALVE), answer("Ask Ida."), status="speculative", consecrated_by=None)
    yes = talk("yes", user(VALVE), answer("Yes, open it."), parent="wrong", feedback="up")
    no = talk("no", user(VALVE), answer("No, do not open it."), feedback="up")
    fair = talk("fair", user("Who has the key?"), answer("Jonas has it."), feedback="up")
    await remember(pool, [wrong, yes, no, fair])
    compiled, _ = await harvested(pool, tmp_path)

    assert [row["id"] for row in open_rows(tmp_path, compiled)] == ["fair", "no", "yes"]
    assert [row["id"] for row in open_rows(tmp_path, compiled, "labels")] == ["fair"]
    assert open_rows(tmp_path, compiled, "pairs") == []
    assert await contradictions(pool) == [("no", "yes")]
    manifest = json.loads((Artifacts(tmp_path).manifest(compiled.manifest) / "manifest.json").read_text())
    assert manifest["statistics"]["contradictions"] == 1


async def test_one_answer_with_and_without_a_thumb_down_is_trained_and_labelled_neither_way(
    pool: Pool, tmp_path: Path
) -> None:
    await remember(
        pool, [*answered("Ask Ida.", feedback="down"), talk("liked", user(VALVE), answer("Ask Ida."), minute=9)]
    )
    compiled, _ = await harvested(pool, tmp_path)

    assert [row["id"] for row in open_rows(tmp_path, compiled)] == ["liked"]
    assert open_rows(tmp_path, compiled, "labels") == []
    assert await contradictions(pool) == [("liked", "n-0")]


async def test_an_opposite_answer_with_a_thumb_down_contradicts_nothing(pool: Pool, tmp_path: Path) -> None:
    await remember(
        pool, [*answered("Yes, open it.", feedback="down"), talk("no", user(VALVE), answer("No, do not open it."))]
    )
    compiled, _ = await harvested(pool, tmp_path)

    assert [row["label"] for row in open_rows(tmp_path, compiled, "labels")] == [False]
    assert await contradictions(pool) == []


def growing(turns: int, **values: Any) -> list[KarmaRecord]:
    """A log of a chat: each record has all turns of the one before, and one more."""
    said = [
        turn
        for at in range(turns)
        for turn in (user(f"What is stop {chr(97 + at)}?"), answer(f"It is {chr(97 + at)} street."))
    ]
    session = next(TRAIN)
    return [talk(f"log-{at}", *said[: 2 * at], minute=at, session=session, **values) for at in range(1, turns + 1)]


def trained_of(row: Any) -> list[str]:
    return [row["messages"][at].get("content") for at in trained_turns(row["messages"])]


async def test_a_growing_log_trains_each_answer_once_from_the_longest(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, growing(12))
    compiled, _ = await harvested(pool, tmp_path)

    assert await reasons(pool) == {f"log-{at}": "continued" for at in range(1, 12)}
    assert await pool.fetch("SELECT DISTINCT repeats FROM exclusion") == [("log-12",)]
    (row,) = open_rows(tmp_path, compiled)
    assert trained_of(row) == [f"It is {chr(97 + at)} street." for at in range(12)]


async def test_a_log_with_a_session_for_each_record_is_on_one_side_of_the_split(pool: Pool, tmp_path: Path) -> None:
    sessions = [f"log {at}" for at in range(12)]
    await remember(pool, [r.model_copy(update={"session": s}) for r, s in zip(growing(12), sessions, strict=True)])
    compiled, _ = await harvested(pool, tmp_path)

    assert len({side_of_session(session) for session in sessions}) > 1, "else the test shows nothing"
    held = {row["id"] for row in sealed_rows(tmp_path, compiled)} if compiled.rows["holdout"] else set()
    assert (len(held), compiled.used) in ((12, 12), (0, 1))


async def test_records_that_begin_with_the_same_greeting_stay_lineages_of_their_own(pool: Pool, tmp_path: Path) -> None:
    greeting = [user("Hello."), answer("Hello, what is it?")]
    asked = [talk(f"asked-{at}", *greeting, user(talked), answer(talked)) for at, talked in enumerate("abcdefghij")]
    sides = (Split.TRAIN, Split.HOLDOUT)
    asked = [one.model_copy(update={"session": f"{session_on(sides[at % 2])}"}) for at, one in enumerate(asked)]
    await remember(pool, [talk("greeting", *greeting), *asked])
    compiled, _ = await harvested(pool, tmp_path)

    assert (compiled.rows["train"], compiled.rows["holdout"]) == (5, 5)


async def test_an_agent_that_goes_on_trains_its_calls_once(pool: Pool, tmp_path: Path) -> None:
    first = [user("Fix it."), *call("ls", "a.py"), answer("Found it.")]
    whole = [*first, user("Go on."), *call("rm a.py", ""), answer("Gone.")]
    await remember(pool, [talk("short", *first), talk("long", *whole, minute=1)])
    compiled, _ = await harvested(pool, tmp_path)

    assert await reasons(pool) == {"short": "continued"}
    assert len(trained_of(open_rows(tmp_path, compiled)[0])) == 4


async def test_where_the_longest_is_not_used_the_next_one_is(pool: Pool, tmp_path: Path) -> None:
    *logs, longest = growing(6)
    long = longest.model_copy(
        update={"messages": (*longest.messages[:-1], ChatMessage(role="assistant", content="so " * 20_000))}
    )
    policy = HarvestPolicy(lengths=Lengths(row=4096), likeness=LikenessPolicy(by_meaning=False))
    await remember(pool, [*logs, long])
    compiled, _ = await harvested(pool, tmp_path, policy=policy)

    assert await reasons(pool) == {**{f"log-{at}": "continued" for at in range(1, 5)}, "log-6": "too_long"}
    assert len(trained_of(open_rows(tmp_path, compiled)[0])) == 5


@pytest.mark.parametrize(
    "changed",
    [
        {"feedback": "down"},
        {"feedback": "up"},
        {"tools": ({"type": "function", "function": {"name": "sh"}},)},
        {"parent": "another"},
        {"messages": (ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="What is stop a?"),
                      ChatMessage(role="assistant", content="It is a street."))},
        {"messages": (ChatMessage(role="user", content="What is stop a?"), ChatMessage(role="assistant", content="It is b street."))},
    ],
)  # fmt: skip
async def test_what_makes_rows_of_its_own_or_began_otherwise_is_not_continued(
    pool: Pool, tmp_path: Path, changed: dict[str, Any]
) -> None:
    first, second = growing(2)
    await remember(pool, [first.model_copy(update=changed), second])
    await harvested(pool, tmp_path)

    assert await reasons(pool) == {}


async def test_an_answer_that_its_owner_does_not_want_trained_in_the_longer_record_keeps_its_own(
    pool: Pool, tmp_path: Path
) -> None:
    first, second = growing(2)
    unwanted = second.messages[1].model_copy(update={"weight": 0})
    await remember(
        pool, [first, second.model_copy(update={"messages": (second.messages[0], unwanted, *second.messages[2:])})]
    )
    await harvested(pool, tmp_path)

    assert await reasons(pool) == {}
