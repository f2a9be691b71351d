"""What is written of a record: targets, pairs, labels, and the system prompt that it is trained with."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
from orjson import Fragment

from services.harvester.policy import Prompts
from services.harvester.rows import File, Used, corrected, prompt_form, rows, shortened
from services.harvester.split import Split


def chat(*turns: str, system: str | None = None) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    said = [{"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)]
    return [{"role": "system", "content": system}, *said] if system else said


def used(messages: list[dict[str, Any]], side: Split = Split.TRAIN, **values: Any) -> Used:
    return Used(
        **{
            "karma": "k",
            "session": "s",
            "side": side,
            "feedback": None,
            "messages": messages,
            **values,
        }
    )


PROVENANCE = {"why": "it worked", "evidence": "the lamp is lit", "consecrated_by": "ida"}


def test_a_holdout_row_says_nothing_of_training() -> None:
    written = list(rows(used(chat("a", "b"), Split.HOLDOUT, feedback="up", **PROVENANCE), "scribe", Prompts()))

    ((file, row),) = written
    assert file is File.HOLDOUT
    expected = {"id": "k", "session": "s", "messages": chat("a", "b"), "checks": [], **PROVENANCE}
    assert orjson.loads(orjson.dumps(row)) == expected


def test_every_row_of_a_record_states_why_it_was_chosen_and_by_whom() -> None:
    record = used(chat("a", "right"), rejected=chat("a", "wrong"), feedback="up", **PROVENANCE)
    written = dict(rows(record, "scribe", Prompts()))

    assert written.keys() == {File.TRAIN, File.LABELS, File.PAIRS}
    assert all(row.items() >= PROVENANCE.items() for row in written.values())


def test_a_correction_that_goes_on_takes_the_place_of_what_it_corrects() -> None:
    wrong = chat("a", "wrong")

    assert corrected([*wrong, *chat("no", "right")], wrong) == chat("a", "right")
    assert corrected(chat("a", "right"), wrong) == chat("a", "right")
    assert corrected(chat("a", "right"), None) == chat("a", "right")


def call(name: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": name, "arguments": "{}"}}]}


def test_a_correction_that_rests_on_a_call_keeps_it() -> None:
    asked = [chat("a")[0], call("look")]
    found = [*asked, {"role": "tool", "tool_call_id": "c", "content": "blue"}, chat("a", "right")[1]]

    assert corrected(found, asked) == found


def test_a_record_that_ends_in_a_call_makes_a_row_and_a_pair() -> None:
    record = used([chat("a")[0], call("look")], rejected=[chat("a")[0], call("run")], feedback="up")
    written = dict(rows(record, "scribe", Prompts()))

    assert written[File.TRAIN]["messages"][-1] == call("look")
    assert (written[File.PAIRS]["chosen"], written[File.PAIRS]["rejected"]) == ([call("look")], [call("run")])
    assert written[File.LABELS]["completion"] == [call("look")]


def test_a_pair_needs_the_same_prompt_and_another_answer() -> None:
    def files(messages: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> set[File]:
        return {file for file, _ in rows(used(messages, rejected=rejected), "scribe", Prompts())}

    assert files(chat("a", "right"), chat("a", "wrong")) == {File.TRAIN, File.PAIRS}
    assert files(chat("a", "right"), chat("another", "wrong")) == {File.TRAIN}
    assert files(chat("a", "right"), chat("a", "right")) == {File.TRAIN}
    assert files(chat("a", "right", system="S."), chat("a", "wrong", system="T.")) == {File.TRAIN, File.PAIRS}


def test_a_correction_in_dev_makes_a_pair_that_is_not_trained_and_one_in_the_holdout_none() -> None:
    def files(side: Split, **values: Any) -> set[File]:
        record = used(chat("a", "right"), side, rejected=chat("a", "wrong"), feedback="up", **values)
        return {file for file, _ in rows(record, "scribe", Prompts())}

    assert files(Split.DEV) == {File.DEV, File.DEV_PAIRS}
    assert files(Split.DEV, contradicted=True) == {File.DEV}
    assert files(Split.HOLDOUT) == {File.HOLDOUT}


def test_pairs_and_labels_are_trained_under_the_system_prompt_of_their_record() -> None:
    short = Prompts(full=0, short=1, short_prompts={"coder": "Code."})
    record = used(chat("a", "right", system="S."), rejected=chat("a", "wrong", system="S."), feedback="up")
    written = dict(rows(record, "coder", short))

    forms = {file: (row["form"], row["short_prompt"]) for file, row in written.items() if file is not File.TRAIN}
    assert forms == dict.fromkeys((File.PAIRS, File.LABELS), ("short", "Code."))


def test_pairs_and_labels_carry_the_tools_of_their_record() -> None:
    tools = Fragment('[{"type": "function"}]')
    record = used(chat("a", "right"), rejected=chat("a", "wrong"), feedback="up", tools=tools)
    written = dict(rows(record, "scribe", Prompts()))

    assert written[File.PAIRS]["tools"] is written[File.LABELS]["tools"] is tools


def test_prompt_forms_come_in_the_shares_of_the_policy_and_stay() -> None:
    prompts = Prompts(full=0.5, short=0.2, seed=3)
    forms = [prompt_form(f"id-{number}", prompts) for number in range(5000)]

    counts = Counter(forms)
    assert abs(counts["full"] / 5000 - 0.5) < 0.03 and abs(counts["short"] / 5000 - 0.2) < 0.03
    assert forms == [prompt_form(f"id-{number}", prompts) for number in range(5000)]
    assert forms != [prompt_form(f"id-{number}", Prompts(full=0.5, short=0.2, seed=4)) for number in range(5000)]


def test_the_default_keeps_a_fifth_of_the_prompts_and_drops_the_rest() -> None:
    counts = Counter(prompt_form(f"id-{number}", Prompts()) for number in range(5000))

    assert abs(counts["full"] / 5000 - 0.2) < 0.03 and counts["short"] == 0


def test_a_short_prompt_is_the_policys_or_the_first_sentence() -> None:
    short = Prompts(full=0, short=1, short_prompts={"coder": "Code."})
    record = used(chat("a", "b", system="You write. You never speak."))

    assert next(rows(record, "scribe", short))[1]["short_prompt"] == "You write."
    assert next(rows(record, "coder", short))[1]["short_prompt"] == "Code."
    assert next(rows(used(chat("a", "b")), "scribe", short))[1]["prompt"] == "none"
    assert shortened("No end") == "No end"


def test_tools_and_checks_are_written_as_they_are_stored() -> None:
    record = used(chat("a", "b"), tools=Fragment('[{"type": "function"}]'), checks=Fragment('[{"kind": "x"}]'))
    ((_, row),) = rows(record, "scribe", Prompts())

    written = orjson.loads(orjson.dumps(row))
    assert (written["tools"], written["checks"]) == ([{"type": "function"}], [{"kind": "x"}])
    assert "tools" not in next(rows(used(chat("a", "b")), "scribe", Prompts()))[1]
