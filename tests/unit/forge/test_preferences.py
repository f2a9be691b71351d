"""What DPO, KTO and SDFT train of a manifest: its pairs, its labels, its reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.forge.trainer.checkpoints import digest_examples
from services.forge.trainer.mask import audit
from services.forge.trainer.preferences import Pair, Rated, RatedRow, Taught, list_sources, render_source
from services.forge.trainer.render import IGNORED, Example, UnfitRow
from shared.config.recipe import LossName
from shared.jobs.result_writer import InputError
from tests.unit.forge.letters import END, GOLDEN, PLAIN, TOOLS, Letters, Tooled

SYSTEM, ASK, ANSWER = PLAIN
WRONG = {"role": "assistant", "content": "wrong"}


def pair(name: str = "p", **changes: Any) -> dict[str, Any]:
    row = {"id": name, "prompt": [SYSTEM, ASK], "form": "full", "chosen": [ANSWER], "rejected": [WRONG], "why": "w"}
    return row | changes


def label(name: str, up: bool) -> dict[str, Any]:
    return {"id": name, "prompt": [ASK], "form": "none", "completion": [ANSWER if up else WRONG], "label": up}


def reasoned(name: str = "r", **changes: Any) -> dict[str, Any]:
    return {"id": name, "messages": list(PLAIN), "prompt": "none", "why": "it is short"} | changes


def manifest(folder: Path, **files: list[dict[str, Any]]) -> Path:
    for name, rows in files.items():
        (folder / name).mkdir()
        (folder / name / "00000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def rendered(loss: LossName, folder: Path, tokenizer: Letters | None = None) -> list[Example]:
    train, _ = list_sources(loss, folder)
    return [one for row in train for one in render_source(tokenizer or Letters(), row, {END})]


def text(tokens: Any) -> str:
    return "".join(map(chr, tokens))


def trained(example: Example) -> str:
    return text(one for one in example.labels if one != IGNORED)


def test_of_both_answers_of_a_pair_only_the_last_turn_is_trained(tmp_path: Path) -> None:
    earlier = [SYSTEM, *GOLDEN[1:4]]
    folder = manifest(tmp_path, pairs=[pair(prompt=earlier, tools=list(TOOLS))], dev_pairs=[pair("d")])
    (made,) = rendered("dpo", folder, Tooled())
    assert isinstance(made, Pair)
    assert (trained(made), trained(made.rejected)) == ("answer$", "wrong$")
    opening = "tools>look$\nsystem>RULES$\nuser>ask$\nassistant>look(at)$\ntool>found$\nassistant>"
    assert [text(side.input_ids) for side in made.sides] == [f"{opening}answer$", f"{opening}wrong$"]
    assert [row.id for row in list_sources("dpo", folder)[1]] == ["d"]


@pytest.mark.parametrize(("form", "opening"), [("full", "system>RULES$\n"), ("short", "system>BRIEF$\n"), ("none", "")])
def test_a_pair_is_trained_under_the_prompt_that_it_names(tmp_path: Path, form: str, opening: str) -> None:
    (made,) = rendered("dpo", manifest(tmp_path, pairs=[pair(form=form, short_prompt="BRIEF")]))
    assert [text(side.input_ids) for side in made.sides] == [
        f"{opening}user>ask$\nassistant>{answer}$" for answer in ("answer", "wrong")
    ]


def test_kto_takes_both_answers_of_a_pair_and_every_thumb_but_none_twice(tmp_path: Path) -> None:
    folder = manifest(
        tmp_path, pairs=[pair("a")], labels=[label("a", up=True), label("b", up=True), label("c", up=False)]
    )
    made = rendered("kto", folder)
    assert [(one.id, trained(one), isinstance(one, Rated) and one.desirable) for one in made] == [
        ("a", "answer$", True),
        ("a", "wrong$", False),
        ("b", "answer$", True),
        ("c", "wrong$", False),
    ]


def test_the_dev_loss_of_kto_is_measured_on_the_held_out_pairs(tmp_path: Path) -> None:
    _, dev = list_sources("kto", manifest(tmp_path, pairs=[pair("a")], dev_pairs=[pair("d")]))
    assert [(row.id, isinstance(row, RatedRow) and row.desirable) for row in dev] == [("d", True), ("d", False)]


def test_the_teacher_sees_the_whole_prompt_the_accepted_answer_and_why(tmp_path: Path) -> None:
    (made,) = rendered("sdft", manifest(tmp_path, train=[reasoned(), reasoned("without", why=" ")]))
    assert isinstance(made, Taught)
    assert text(made.input_ids) == "user>ask$\nassistant>answer$"
    question = "ask\n\nThis answer was accepted:\nanswer\n\nWhy: it is short\n\nNow give an answer of your own."
    assert text(made.teacher) == f"system>RULES$\nuser>{question}$\nassistant>"
    assert made.longest == len(made.teacher)


def test_the_teacher_sees_the_call_of_a_row_that_ends_in_one(tmp_path: Path) -> None:
    (made,) = rendered(
        "sdft", manifest(tmp_path, train=[reasoned(messages=list(GOLDEN[:3]), tools=list(TOOLS))]), Tooled()
    )
    assert isinstance(made, Taught) and '"look"' in text(made.teacher)


def test_a_row_in_which_no_user_asks_has_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(UnfitRow, match="no user asks"):
        rendered("sdft", manifest(tmp_path, train=[reasoned(messages=[SYSTEM, ANSWER])]))


@pytest.mark.parametrize(
    ("loss", "files", "needed"),
    [
        ("dpo", {"labels": [label("a", up=True)]}, "corrections of answers"),
        ("kto", {"labels": [label("a", up=True)]}, "answers that were disliked"),
        ("kto", {"labels": [label("a", up=False)]}, "answers that were liked"),
        ("sdft", {"train": [reasoned(why="")], "pairs": [pair()]}, "rows that state why"),
    ],
)
def test_a_manifest_without_what_a_loss_needs_is_refused(
    tmp_path: Path, loss: LossName, files: dict[str, list[dict[str, Any]]], needed: str
) -> None:
    with pytest.raises(InputError, match=f'loss "{loss}".*{needed}'):
        list_sources(loss, manifest(tmp_path, **files))


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pairs/00000\.jsonl line 1 is not a row: rejected"):
        list_sources("dpo", manifest(tmp_path, pairs=[pair(rejected=[])]))


def test_both_sides_of_a_pair_are_audited_and_counted(tmp_path: Path) -> None:
    rows = [pair(str(number)) for number in range(20)]
    long = pair("long", rejected=[{"role": "assistant", "content": "x" * 90}])
    fit, numbers = audit(Letters(), rendered("dpo", manifest(tmp_path, pairs=[*rows, long])), {}, {}, max_length=100)
    assert [one.id for one in fit] == [row["id"] for row in rows]
    assert numbers.refused == {"long": "more than 100 tokens: it would be cut"}
    assert (numbers.rows, numbers.examples, numbers.least_trained) == (20, 40, len("wrong$"))
    assert numbers.trained_tokens == 20 * len("answer$wrong$")
    assert numbers.previews == ("answer$", "wrong$", "answer$")


def test_what_differs_in_a_rejected_answer_a_label_or_a_teacher_is_another_run() -> None:
    made = [
        Pair("a", [1, 2], [IGNORED, 2], "full", rejected=Example("a", [1, 3], [IGNORED, 3], "full")),
        Pair("a", [1, 2], [IGNORED, 2], "full", rejected=Example("a", [1, 4], [IGNORED, 4], "full")),
        Rated("a", [1, 2], [IGNORED, 2], "full", desirable=True),
        Rated("a", [1, 2], [IGNORED, 2], "full", desirable=False),
        Taught("a", [1, 2], [IGNORED, 2], "full", teacher=[5]),
        Taught("a", [1, 2], [IGNORED, 2], "full", teacher=[6]),
        Example("a", [1, 2], [IGNORED, 2], "full"),
    ]
    assert len({digest_examples([one]) for one in made}) == len(made)
