"""What a conversation teaches, and when two conversations teach the same, exclude each other, or neither."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.harvester.scan import tokens
from services.harvester.scan.compare import Likeness, compare
from services.harvester.scan.lesson import digest_beginnings, read_lesson
from services.harvester.scan.tokens import drop_fillers, read_tokens

NEAR, CONTRADICTING, APART = Likeness
FILTER = (
    "To replace the filter, first switch the unit to standby and wait until the fan has come to a rest. Lift the grille off, pull "
    "the old filter toward you and note which way its arrow points. Push the new one in and log the change in the service book."
)
Message = dict[str, Any]


def chat(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def agent(arguments: str, result: str = "ok", answer: str = "Done.") -> list[Message]:
    call = {"id": "c", "type": "function", "function": {"name": "sh", "arguments": arguments}}
    return [
        {"role": "user", "content": "Do it."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": result},
        {"role": "assistant", "content": answer},
    ]


def judged(one: list[Message], other: list[Message], **options: Any) -> Likeness:
    return compare(read_lesson(one), read_lesson(other), 0.8, **options)


def answers(one: str, other: str, question: str = "Well?") -> Likeness:
    return judged(chat(question, one), chat(question, other))


def test_numbers_operators_paths_and_code_are_tokens_and_punctuation_is_not() -> None:
    assert read_tokens("Run `rm -R a`, then -- see x.py: a > b, don't!") == [
        *("run", "`rm", "`-", "`R", "`a", "then", "see", "x.py", "a", ">", "b", "do", "not"),
    ]
    assert read_tokens("5 - 3, x*y, -5 %, ٥€ C++ well-known") == [
        *("5", "-", "3", "x", "*", "y", "-5", "%", "5", "€", "C++", "well", "known"),
    ]
    assert read_tokens("ไม่ใช่ 打开 कि") == ["ไม่", "ใช่", "打开", "कि"]


@given(st.text("ab1_ .,'/\\@:-*+#<>=%&|~^$!`\n\t()[]\"?X9", max_size=40))
def test_texts_of_ascii_have_the_same_tokens_whichever_pattern_reads_them(text: str) -> None:
    quick, full = ([found[0] for found in one.finditer(text)] for one in (tokens._ASCII_TOKEN, tokens._TOKEN))
    assert quick == full


def test_politeness_counts_where_there_is_nothing_else() -> None:
    assert drop_fillers(read_tokens("Sure! Please open it. Thank you!")) == ["open", "it"]
    assert drop_fillers(read_tokens("Thank you!")) == ["thank", "you"]
    assert answers("Sure!", "Hello!") is APART


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Får du? Ja.", "Får du? Nej, inte."),
        ("Ja, dat mag.", "Nee, dat mag niet."),
        ("Sim, abra.", "Não, não abra."),
        ("Kyllä, avaa se.", "Ei, älä avaa."),
        ("Ναι, άνοιξέ την.", "Όχι, μην την ανοίξεις."),
        ("כן, אפשר.", "לא, אי אפשר."),
        ("بله، باز کن.", "نه، باز نکن."),
        ("Так, можна.", "Ні, не можна."),
        ("হ্যাঁ, খুলুন।", "না, খুলবেন না।"),
        ("ஆம்", "இல்லை"),
        ("ໄດ້", "ບໍ່ໄດ້"),
        ("Igen, nyisd ki.", "Nem, ne nyisd ki."),
        ("Ano, otevřete ho.", "Ne, neotevírejte ho."),
        ("Pompa çalışıyor.", "Pompa çalışmıyor."),
        ("Das ist möglich.", "Das ist unmöglich."),
        ("Это опасно.", "Это безопасно."),
        ("Café con leche.", "Café sin leche."),
        ("You should save it.", "You shouldn't save it."),
        ("Always lock the door.", "Never lock the door."),
        ("Turn it left.", "Turn it right."),
        ("👍", "👎"),
        ("True", "False"),
        ("It is 5 km away.", "It is 5 m away."),
        ("On 2026-05-01.", "On 2026-05-02."),
        ("A → B", "A ← B"),
        ("x² + 1", "x³ + 1"),
        ("cat a | sort", "cat a || sort"),
        ("arr[0]", "arr(0)"),
        ("`^a+$`", "`^a*$`"),
        (FILTER, FILTER.replace("and wait", "and do not wait")),
    ],
)
def test_answers_that_exclude_each_other_contradict(one: str, other: str) -> None:
    assert answers(one, other) is answers(other, one) is CONTRADICTING


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Call her Minka.", "Call her Paula."),
        ("Try Blue from 1971.", "Try Red from 1974."),
        ("I like tea.", "I do not like coffee."),
        ("```python\nprint('x')\n```", "```js\nconsole.log('x')\n```"),
        ("From euros to dollars.", "From dollars to euros."),
        ("剪红线。", "剪蓝线。"),
        ("कल", "काल"),
        ("ข้าว", "ข่าว"),
        ("...", "!!!"),
        ("🙂", "🙁"),
        ("Edit it:\n  a: 1\n  b: 2", "Edit it:\n  a: 1\nb: 2"),
    ],
)
def test_other_answers_are_lessons_of_their_own_and_no_contradiction(one: str, other: str) -> None:
    assert answers(one, other) is APART


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hold the button.", "hold  the BUTTON"),
        ("Hold it.", "Sure! Hold it. I hope this helps!"),
        ("Kapıyı açın.", "KAPIYI AÇIN"),
        (FILTER, FILTER.replace("first switch", "first turn")),
        (f"{FILTER} Do not wait.", f"{FILTER} Don't wait."),
        (FILTER, "1. " + FILTER.replace(". ", ".\n2. ", 1)),
        ("ボタンを押して。", "もちろんです。ボタンを押して！"),
        ("５ किलो", "5 किलो"),
    ],
)
def test_near_copies_are_one_lesson(one: str, other: str) -> None:
    assert answers(one, other) is NEAR


def test_a_longer_text_needs_the_likeness_of_the_policy() -> None:
    one, other = (read_lesson(chat("How?", text)) for text in (FILTER, FILTER.replace("first switch", "first turn")))
    assert (compare(one, other, 0.8), compare(one, other, 0.97)) == (NEAR, APART)


def test_in_a_short_text_each_word_counts_and_in_a_longer_one_the_negation_of_a_word() -> None:
    short = "The door of the hall is opened by the guard who keeps its key in the third of the drawers at the window"
    assert len(short.split()) == 23 and answers(short, short.replace("window", "cupboard")) is APART
    assert answers(f"{FILTER} Rain is likely.", f"{FILTER} Rain is unlikely.") is CONTRADICTING


def test_questions_in_other_words_are_one_where_their_meaning_was_found_alike() -> None:
    def asked(question: str) -> list[Message]:
        return chat(question, "Hold the button until it blinks.")

    one = asked("How can I restart the device?")
    assert judged(one, asked("What do I do to restart my device?")) is APART
    assert judged(one, asked("What do I do to restart my device?"), like_meaning=True) is NEAR
    for other in (
        "How can I restart the lamp?",
        "What do I do to not restart my device?",
        "What do I do in 5 minutes?",
        "怎么重启？",
    ):
        assert judged(one, asked(other), like_meaning=True) is APART, other


def test_the_prompt_is_what_is_not_trained_and_calls_are_trained() -> None:
    assert judged(agent('{"cmd": "a", "n": 1}'), agent('{"n":1,"cmd":"a"}', answer="done")) is NEAR
    assert judged(agent('{"cmd": "a"}'), agent('{"cmd": "b"}')) is APART
    assert judged(agent('{"cmd": "a"}', "3 passed"), agent('{"cmd": "a"}', "4 passed")) is APART
    untrained = agent('{"cmd": "b"}')
    untrained[1]["weight"] = 0
    assert read_lesson(untrained).trained == read_lesson(chat("?", "Done.")).trained


def test_other_system_prompts_make_no_lesson_but_may_ask_for_opposite_answers() -> None:
    one, other = (
        [{"role": "system", "content": text}, *chat("Open?", "Yes.")] for text in ("Be brief.", "Obey the night rule.")
    )
    assert read_lesson(one).digest == read_lesson(other).digest
    other[-1]["content"] = "No."
    assert (judged(one, other), judged(one, [one[0], *other[1:]])) == (APART, CONTRADICTING)


def test_the_digest_knows_the_case_of_code_its_indents_and_what_is_trained() -> None:
    def digest(messages: list[Message]) -> bytes:
        return read_lesson(messages).digest

    assert digest(chat("Why?", "Because  of it.")) == digest(chat("why?", "because of IT."))
    texts = ["`ls -R`", "`ls -r`", "a > b", "a < b", "if a:\n  b\n  c", "if a:\n  b\nc", "a b", "ab", "Ab.py", "ab.py"]
    assert len({digest(chat("Well?", text)) for text in texts}) == len(texts)
    assert digest(agent('{"a": 1, "b": 2}')) == digest(agent('{"b":2,"a":1}')) != digest(agent('{"a": 1, "b": 3}'))
    first = [*chat("One?", "Two."), *chat("Three?", "Four.")]
    second = [first[0], first[1] | {"weight": 1}, *first[2:]]
    assert digest(first) != digest(second)


def test_what_goes_on_from_a_conversation_has_its_digest_among_its_beginnings() -> None:
    short, long = chat("One?", "Two."), [*chat("One?", " Two."), *chat("Three?", "Four.")]
    (_, whole) = digest_beginnings(short, "[]")[-1]

    assert [at for at, _ in digest_beginnings(long, "[]")] == [2, 4]
    assert whole == digest_beginnings(long, "[]")[0][1]
    assert whole not in dict(digest_beginnings(long, json.dumps([{}]))).values()
    long[1]["weight"] = 0
    assert [at for at, _ in digest_beginnings(long, "[]")] == [4]


def test_what_goes_on_from_a_call_has_its_digest_among_its_beginnings() -> None:
    for before in ([], chat("One?", "Two.")):
        short, long = [*before, *agent('{"a": 1, "b": 2}')[:2]], [*before, *agent('{"b":2, "a":1}')]
        at, whole = digest_beginnings(short, "[]")[-1]

        assert at == len(short) and dict(digest_beginnings(long, "[]"))[at] == whole
        other = [*before, *agent('{"a": 1, "b": 3}')]
        assert whole not in dict(digest_beginnings(other, "[]")).values()
        long[len(before) + 1]["weight"] = 0
        assert whole not in dict(digest_beginnings(long, "[]")).values()


def test_records_that_end_in_calls_are_compared_by_name_and_arguments() -> None:
    def call(arguments: str) -> list[Message]:
        return agent(arguments)[:2]

    assert judged(call('{"cmd": "a", "n": 1}'), call('{"n":1,"cmd":"a"}')) is NEAR
    assert judged(call('{"cmd": "a"}'), call('{"cmd": "b"}')) is APART
    assert read_lesson(call("{}")).digest != read_lesson(agent("{}")).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [("if a:\n    b", "if a:\n  b"), ("x\n", "x"), ("a\tb", "a b"), ("a  b", "a b"), ("a:\n- b", "a:\n  - b")],
)
def test_white_space_in_the_arguments_of_a_call_counts(one: str, other: str) -> None:
    talks = [agent(json.dumps({"text": text}), answer=FILTER) for text in (one, other)]
    assert judged(*talks) is APART
    assert read_lesson(talks[0]).digest != read_lesson(talks[1]).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ida gave Bo the key.", "Bo gave Ida the key."),
        ("First drain it, then close it.", "First close it, then drain it."),
        ("Use the input valve.", "Use the output valve."),
        ("Encrypt the disk.", "Decrypt the disk."),
        ("The noise is harmful.", "The noise is harmless."),
        ("You must log it.", "You may log it."),
        ("All units need it.", "Some units need it."),
        ("Press A there.", "Press B there."),
        ("See part II there.", "See part III there."),
        ("Take four turns.", "Take three turns."),
        ("Do it on Monday.", "Do it on Friday."),
        ("Heat it to 20 °C.", "Heat it to 20 °F."),
        ("Match \\d there.", "Match \\D there."),
        ("Delete *.log there.", "Delete *.log.* there."),
        ("Then run cd .. there.", "Then run cd . there."),
        ("It is hardly safe.", "It is really safe."),
        ("Schalten Sie es ein.", "Schalten Sie es aus."),
        ("Закройте входной клапан.", "Закройте выходной клапан."),
        ("Suba la palanca.", "Baje la palanca."),
        ("yağlı", "yağsız"),
        ("turvallinen", "turvaton"),
        ("Lehetséges.", "Lehetetlen."),
        ("מותר לגעת.", "אסור לגעת."),
        ("می‌کند", "نمی‌کند"),
        ("가능합니다.", "불가능합니다."),
        ("ต้องทำ", "อาจทำ"),
        ("这是合法的。", "这是违法的。"),
        ("すべてのポンプ。", "一部のポンプ。"),
    ],
)
def test_one_word_that_excludes_another_keeps_long_answers_apart(one: str, other: str) -> None:
    assert answers(f"{FILTER} {one} {FILTER}", f"{FILTER} {other} {FILTER}") is not NEAR
