"""What of a row is trained: its answer, and where it calls tools, every turn of the way to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from services.forge.trainer.mask import audit, expect_enough, length_limit, preview
from services.forge.trainer.render import IGNORED, NO_END, OTHER_TEXT, Example, UnfitRow, render
from services.forge.trainer.rows import PromptForm, Row
from shared.jobs.result_writer import InputError
from tests.unit.forge.letters import END, GOLDEN, PLAIN, TOOLS, Letters, Observing, Opening, Parted, Thinking, Tooled


def row(messages: Sequence[dict[str, Any]] = PLAIN, prompt: PromptForm = "full", **changes: Any) -> Row:
    return Row(id="one", messages=tuple(messages), prompt=prompt, **changes)


def text(example: Example) -> str:
    return Letters().decode(list(example.input_ids))


def marked(example: Example) -> str:
    """The text with a dot for every token that is not trained."""
    return "".join("." if label == IGNORED else chr(label) for label in example.labels)


def example(trained: int, length: int = 20, name: str = "x", prompt: PromptForm | None = "none") -> Example:
    return Example(name, [1] * length, [IGNORED] * (length - trained) + [1] * trained, prompt)


def test_only_the_answer_and_its_end_of_turn_are_trained() -> None:
    (rendered,) = render(Letters(), row(), end_of_turn={END})
    assert preview(Letters(), rendered) == "answer$"
    assert text(rendered) == "system>RULES$\nuser>ask$\nassistant>answer$"
    assert all(label in (IGNORED, token) for label, token in zip(rendered.labels, rendered.input_ids, strict=True))


@pytest.mark.parametrize(
    ("prompt", "opening"), [("full", "system>RULES$\n"), ("short", "system>BRIEF$\n"), ("none", "")]
)
def test_a_row_is_rendered_under_the_prompt_that_it_names(prompt: PromptForm, opening: str) -> None:
    (rendered,) = render(Letters(), row(prompt=prompt, short_prompt="BRIEF"), end_of_turn={END})
    assert text(rendered) == f"{opening}user>ask$\nassistant>answer$"
    assert rendered.prompt == prompt


def test_earlier_answers_of_a_plain_chat_are_not_trained() -> None:
    earlier = [PLAIN[1], {"role": "assistant", "content": "unverified"}]
    (rendered,) = render(Tooled(), row([*earlier, *PLAIN[1:]]), end_of_turn={END})
    assert preview(Letters(), rendered) == "answer$"


def test_every_assistants_turn_of_a_golden_path_is_trained_with_its_end() -> None:
    (rendered,) = render(Tooled(), row(GOLDEN, prompt="none", tools=TOOLS), end_of_turn={END})
    assert text(rendered) == "tools>look$\nuser>ask$\nassistant>look(at)$\ntool>found$\nassistant>answer$"
    unseen = len("tools>look$\nuser>ask$\nassistant>"), len("\ntool>found$\nassistant>")
    assert marked(rendered) == "." * unseen[0] + "look(at)$" + "." * unseen[1] + "answer$"


def test_a_call_at_the_end_is_trained_with_its_end() -> None:
    (rendered,) = render(Tooled(), row(GOLDEN[:3], prompt="none", tools=TOOLS), end_of_turn={END})
    assert text(rendered) == "tools>look$\nuser>ask$\nassistant>look(at)$"
    assert preview(Letters(), rendered) == "look(at)$"


def test_a_call_at_the_end_is_trained_to_the_opening_of_its_result() -> None:
    (rendered,) = render(Observing(), row(GOLDEN[:3], prompt="none"), end_of_turn={END, ord("%")})
    assert preview(Letters(), rendered) == "look(at)%"


@pytest.mark.parametrize(("weight", "trained"), [(None, "answer$"), (0, "answer$"), (1, "unverified$answer$")])
def test_the_weight_of_an_earlier_answer_goes_before_the_rule(weight: int | None, trained: str) -> None:
    earlier = [PLAIN[1], {"role": "assistant", "content": "unverified", "weight": weight}]
    (rendered,) = render(Tooled(), row([*earlier, *PLAIN[1:]]), end_of_turn={END})
    assert preview(Letters(), rendered) == trained


def test_a_call_of_weight_0_is_not_trained() -> None:
    given = [message | {"weight": 0} if message.get("tool_calls") else message for message in GOLDEN]
    (rendered,) = render(Tooled(), row(given, prompt="none", tools=TOOLS), end_of_turn={END})
    assert preview(Letters(), rendered) == "answer$" and "look(at)$" in text(rendered)


def test_a_template_that_rewrites_earlier_turns_gives_an_example_for_each() -> None:
    first, last = render(Thinking(), row(GOLDEN, prompt="none", tools=TOOLS), end_of_turn={END})
    assert text(first) == "tools>look$\nuser>ask$\nassistant>~look(at)$"
    assert text(last) == "tools>look$\nuser>ask$\nassistant>look(at)$\ntool>found$\nassistant>~answer$"
    assert [preview(Letters(), one) for one in (first, last)] == ["~look(at)$", "~answer$"]
    assert (first.id, last.id) == ("one", "one")


def test_a_template_that_serves_another_text_than_it_trains_is_refused() -> None:
    with pytest.raises(UnfitRow, match=OTHER_TEXT):
        render(Letters(drops_history=True), row(), end_of_turn={END})


def test_a_turn_that_the_next_one_ends_is_trained_to_its_opening() -> None:
    (rendered,) = render(Opening(), row(), end_of_turn={END})
    assert text(rendered) == "$system>RULES$user>ask$assistant>answer$"
    assert preview(Letters(), rendered) == "answer$"


def test_content_is_rendered_as_parts_where_the_template_reads_them() -> None:
    (rendered,) = render(Parted(), row(), end_of_turn={END})
    assert text(rendered) == "system>RULES.$\nuser>ask.$\nassistant>answer.$"


def test_an_answer_that_would_never_stop_is_refused() -> None:
    with pytest.raises(UnfitRow, match=NO_END):
        render(Letters(closing="\n"), row(), end_of_turn={END})


def test_an_empty_mask_is_refused_and_counted() -> None:
    good = [example(5, name=str(number)) for number in range(20)]
    fit, numbers = audit(Letters(), [*good, example(1, name="empty")], {}, {}, max_length=100)
    assert fit == good
    assert numbers.refused == {"empty": "the loss mask is empty"}
    assert (numbers.rows, numbers.examples, numbers.trained_tokens, numbers.least_trained) == (20, 20, 100, 5)


def test_a_row_is_left_out_whole_and_counted_once() -> None:
    good = [example(5, name=str(number), prompt="full") for number in range(10) for _ in range(2)]
    long = [example(5, name="long"), example(5, length=200, name="long")]
    fit, numbers = audit(Letters(), [*good, *long], {}, {}, max_length=100)
    assert fit == good
    assert (numbers.rows, numbers.examples, list(numbers.refused)) == (10, 20, ["long"])


def test_rows_are_counted_by_the_form_of_their_prompt() -> None:
    forms: list[PromptForm | None] = ["full", "none", "none", "short", None]
    examples = [example(5, name=str(number), prompt=form) for number, form in enumerate(forms)]
    _, numbers = audit(Letters(), [*examples, examples[0]], {}, {}, max_length=100)
    assert numbers.prompts == {"full": 1, "none": 2, "short": 1}


def test_a_row_that_is_not_trained_as_served_is_counted_and_too_many_refuse_the_run() -> None:
    good = [example(5, name=str(number)) for number in range(20)]
    fit, numbers = audit(Letters(), good, {}, {"odd": NO_END, "other": OTHER_TEXT}, max_length=100)
    assert (fit, numbers.refused) == (good, {"odd": NO_END, "other": OTHER_TEXT})
    with pytest.raises(InputError, match=f"3 of 23 rows cannot be trained: a: {NO_END}"):
        audit(Letters(), good, {}, dict.fromkeys("abc", NO_END), max_length=100)


@pytest.mark.parametrize(
    ("wanted", "lengths", "limit"),
    [
        ("auto", [5, 900], 512),
        (100, [5], 100),
        (1000, [5], 512),
        ("p99", [*range(1, 201)], 198),
        ("p99", [7, 9, 8], 9),
        ("p99", [900], 512),
        ("p99", [], 512),
    ],
)
def test_the_longest_row_follows_from_the_recipe_the_data_and_the_base(
    wanted: str | int, lengths: list[int], limit: int
) -> None:
    assert length_limit(wanted, lengths, context=512) == limit


def test_a_run_of_empty_masks_is_refused() -> None:
    with pytest.raises(InputError, match="1 of 2 rows"):
        audit(Letters(), [example(5), example(0, name="empty")], {}, {}, max_length=100)


def test_a_row_that_would_be_cut_is_refused() -> None:
    with pytest.raises(InputError, match="more than 20 tokens: it would be cut"):
        audit(Letters(), [example(5, length=21)], {}, {}, max_length=20)


@pytest.mark.parametrize(("skipped", "trained", "enough"), [(1, 1, True), (2, 1, False), (1, 0, False), (0, 1, True)])
def test_a_base_that_can_show_less_than_half_of_the_rows_is_refused(skipped: int, trained: int, enough: bool) -> None:
    reasons = {f"odd-{number}": "the chat template drops its tool calls" for number in range(skipped)}
    _, numbers = audit(Letters(), [example(5, name=str(n)) for n in range(trained)], reasons, {}, max_length=100)
    assert numbers.skipped == reasons
    if enough:
        expect_enough(numbers)
        return
    with pytest.raises(InputError, match=f"{skipped} of {skipped + trained} rows.*odd-0: the chat template drops"):
        expect_enough(numbers)


def test_a_dev_split_with_nothing_left_is_no_fault() -> None:
    fit, numbers = audit(Letters(), [], {"a": "the chat template drops its tool calls"}, {}, max_length=100)
    assert (fit, numbers.rows, numbers.least_trained, numbers.longest) == ([], 0, 0, 0)
