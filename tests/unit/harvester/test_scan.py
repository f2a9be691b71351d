"""What is read in a record: its words, its passages, and whether it holds a benchmark's item."""

from __future__ import annotations

import json
import random
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.harvester.reasons import Reason
from services.harvester.scan import ngrams
from services.harvester.scan.decontamination import Benchmarks, read_passages
from services.harvester.scan.ngrams import sample_ngrams
from services.harvester.scan.normalise import fingerprint, join_turns, split_words, words_of_text
from services.harvester.scan.scanner import RecordScanner, Scanned
from shared.redaction.policy import RedactionPolicy

VOCABULARY = [f"w{number}" for number in range(500)]


def said(seed: int, length: int) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=length)


def joined(words: list[str]) -> bytes:
    return " ".join(words).encode()


def chat(question: str, answer: str, system: str = "Be brief.") -> list[dict[str, str]]:
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]


def printed_json(value: object) -> str:
    """As PostgreSQL prints a jsonb: a space after commas and colons."""
    return json.dumps(value, ensure_ascii=False)


def scan(scanner: RecordScanner, messages: object, tools: str = "[]", checks: str | None = None) -> Scanned:
    return scanner.scan(printed_json(messages), tools, checks)


def scanner(folder: Path) -> RecordScanner:
    return RecordScanner(RedactionPolicy(), folder)


def printed(messages: list[dict[str, str]]) -> bytes:
    turns = join_turns(messages)
    return fingerprint(turns, split_words(turns))


def test_words_are_the_same_whatever_their_case_spacing_and_form() -> None:
    assert words_of_text("  Straße\n ＡＢＣ  “so”") == words_of_text("STRASSE abc so")
    one = printed(chat("Who  is it?", "ME."))
    assert one == printed(chat("who is it?", "me.", "Another prompt."))
    others = [chat("Who is it? Me.", ""), chat("Who is it?", "Me!"), chat("Whois it?", "Me.")]
    assert one not in {printed(other) for other in others}


@pytest.mark.parametrize(("arguments", "reason"), [('{"at": "sky"}', None), ("the sky", Reason.MALFORMED)])
@pytest.mark.parametrize("spoken", [{}, {"content": None}])
def test_a_record_may_end_in_a_call(
    tmp_path: Path, arguments: str, reason: Reason | None, spoken: dict[str, None]
) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}]
    messages = [*chat("Is it raining?", "x")[:2], {"role": "assistant", "tool_calls": calls, **spoken}]
    found = scan(scanner(tmp_path), messages, checks='[{"kind": "max_words", "words": 3}]')

    assert (found.reason, bool(found.lesson)) == (reason, reason is None)


def test_what_is_redacted_in_a_call_at_the_end_leaves_its_arguments_json(tmp_path: Path) -> None:
    arguments = json.dumps({"to": "ida.lovelace@tidewater.io", "text": "It rains."})
    calls = [{"id": "c", "type": "function", "function": {"name": "send", "arguments": arguments}}]
    messages = [*chat("Tell her.", "x")[:2], {"role": "assistant", "tool_calls": calls}]
    found = scan(scanner(tmp_path), messages)

    assert found.redacted
    written = json.loads(found.redacted["messages"][-1]["tool_calls"][0]["function"]["arguments"])
    assert written["text"] == "It rains." and "ida" not in written["to"]


def test_the_system_prompt_is_not_said_but_a_tool_call_is() -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "run", "arguments": "{}"}}]}

    assert split_words(join_turns([*chat("Go.", "Done!"), call])) == b"go done run"


def test_words_are_joined_by_single_spaces() -> None:
    assert [split_words(turns) for turns in (b" \t a,b  \n", b"", b"...", b"C")] == [b"a b", b"", b"", b"c"]


def test_a_tool_call_of_another_form_has_no_words() -> None:
    odd = {"role": "assistant", "content": "So.", "tool_calls": [{"function": "odd"}, {}]}
    assert split_words(join_turns([odd])) == b"so"


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 60))
def test_two_texts_share_the_sampled_passages_of_what_they_share(seed: int, before: int, after: int) -> None:
    shared = said(seed, 400)
    one = sample_ngrams(joined([*said(seed + 1, before), *shared]))
    other = sample_ngrams(joined([*shared, *said(seed + 2, after), "end"]))
    alone = set(sample_ngrams(joined(shared)))

    assert alone and alone <= set(one) and alone <= set(other)
    assert len(alone) < 2 * 400 / ngrams.SAMPLED


def test_a_text_of_fewer_words_than_a_passage_has_none() -> None:
    assert [sample_ngrams(joined(said(number, 12))) for number in range(400)] == [[]] * 400
    assert sample_ngrams(b"") == []


def test_unlike_texts_share_no_passage_and_long_ones_are_sampled_alike() -> None:
    one, other = (joined(said(number, 300)) for number in range(2))
    long = joined(said(2, 40_000))

    assert not set(sample_ngrams(one)) & set(sample_ngrams(other))
    assert len(long) > ngrams.USUAL_BYTES and set(sample_ngrams(one)) <= set(sample_ngrams(b"%b %b" % (one, long)))


THAI = "กขคงจฉชซญดตถทธนบปผพภมยรลวสหอ"


@pytest.mark.parametrize(
    "letters", ["的一是在不了有和人这中大为上个国我以要他", THAI, "あいうえおかきくけこさしすせそ"]
)
def test_texts_without_spaces_share_passages_of_26_letters(letters: str) -> None:
    drawn = "".join(random.Random(1).choices(letters, k=400))
    one, other = (
        set(sample_ngrams(words_of_text(text))) for text in (f"{letters}{drawn}", f"{drawn} and more {letters}")
    )

    assert len(one & other) > 10
    assert sample_ngrams(words_of_text(drawn[:25])) == []


def test_a_mark_on_a_letter_makes_another_word() -> None:
    assert len({words_of_text(text) for text in ("ข้าว", "ข่าว", "ขาว", "कल", "काल", "कूल")}) == 6


@pytest.mark.parametrize("item", ["哪一座桥是这条河上最古老的桥呢是石头桥", "สะพานใดเก่าแก่ที่สุดในแม่น้ำสายนี้สะพานหิน"])
def test_an_item_of_a_benchmark_is_found_in_a_text_without_spaces(tmp_path: Path, item: str) -> None:
    context, choice = item[:-3], item[-3:]
    (tmp_path / "items.jsonl").write_text(json.dumps({"context": context, "choices": [choice], "answer": 0}))
    benchmarks = Benchmarks(read_passages(tmp_path))

    assert benchmarks.meets(words_of_text(f"他说{item}。ok"))
    assert not benchmarks.meets(words_of_text(f"{context[:10]}x{context[10:]}{choice}"[:24]))
    (tmp_path / "items.jsonl").write_text(json.dumps({"context": item[:10], "choices": [choice], "answer": 0}))
    assert read_passages(tmp_path) == [], "13 letters are everyday language"


def test_an_item_of_a_benchmark_is_found_inside_other_words(tmp_path: Path) -> None:
    items = [
        {
            "context": "The oldest of the seven bridges over the river is the",
            "choices": ["iron one", "stone one"],
            "answer": 1,
        },
        {"context": "It is", "choices": ["late"], "answer": 0},
        {"prompt": "Which of the two old mills burned down last?", "checks": []},
        {
            "question": "How many of the nine old lanterns are still lit?",
            "choices": ["two", "three"],
            "answer": 1,
        },
    ]
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "items.jsonl").write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in items))
    benchmarks = Benchmarks(read_passages(tmp_path))

    said = [
        b"he said the oldest of the seven bridges over the river is the stone one of course",
        b"the oldest of the seven bridges over the river is the iron one",
        b"",
        b"it is late",
        b"the oldest of the seven bridges over the river is the",
        b"stone one",
        b"the oldest of the seven bridges over the river is the stone one",
        b"tell me which of the two old mills burned down last please",
        b"how many of the nine old lanterns are still lit",
    ]
    assert [place for place, words in enumerate(said) if benchmarks.meets(words)] == [0, 6, 7, 8]
    assert not Benchmarks([]).meets(b"anything")


def test_a_scan_tells_what_keeps_a_record_out_and_holds_none_of_its_words(tmp_path: Path) -> None:
    token = "ghp" + "_" + "".join(random.Random(1).choices("abcdefghjkABCDEFGH23456789", k=36))
    one = scanner(tmp_path)
    clean = scan(one, chat("Why?", "Because."))
    secret = scan(one, chat("Which token?", f"Use {token} there."))
    personal = scan(one, chat("Whom to ask?", "Write to maria.keller@posteo.de please."))
    broken = scan(one, [{"role": "user", "content": "?"}])

    assert (clean.reason, clean.redacted, clean.found) == (None, None, None)
    assert (secret.reason, secret.found) == (Reason.SECRET, {"github_token": 1})
    assert (personal.reason, personal.found) == (None, {"email": 1})
    assert personal.redacted and personal.redacted["messages"][2]["content"] == "Write to [e-mail] please."
    assert (broken.reason, broken.text) == (Reason.MALFORMED, None)
    assert token not in str(secret) and "keller" not in str(personal)


def test_only_whole_conversations_with_sound_rules_are_well_formed(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_bytes(
        orjson.dumps({"context": " ".join(said(7, 12)), "choices": [said(8, 1)[0]], "answer": 0})
    )
    one = scanner(tmp_path)
    tool = [{"type": "function", "function": {"name": "call", "description": "Call 030 555 1234 567."}}]
    contaminated = f"{' '.join([*said(7, 12), said(8, 1)[0]])} and so on"

    assert scan(one, chat("Straße?", "Überall, „dort“ — ÄÖ.")).reason is None
    assert scan(one, chat("Tool?", "Yes."), tools=printed_json(tool)).reason is None
    assert scan(one, chat("Go.", "Gone."), checks='[{"kind": "contains", "text": "a"}]').reason is None
    assert scan(one, chat("Go.", contaminated)).reason is Reason.CONTAMINATED
    assert scan(one, chat("Key?", "password = 'Hunter77!seven'")).reason is Reason.SECRET
    for broken in ([], ["so", 1], {"a": 1}, None, [{"role": "assistant", "content": "So."}], chat("Why?", "")):
        assert scan(one, broken).reason is Reason.MALFORMED
    assert scan(one, chat("Why?", "So."), checks='[{"kind": "none"}]').reason is Reason.MALFORMED
    assert scan(one, chat("Why?", "So."), checks="null").reason is Reason.MALFORMED


@pytest.mark.parametrize("number", ["1e5000", f"1{'0' * 5000}"])
def test_a_number_that_no_program_can_hold_makes_a_record_malformed(tmp_path: Path, number: str) -> None:
    """PostgreSQL stores such ones; a scan must not end at them."""
    called = f'[{{"role": "user", "content": "?"}}, {{"role": "assistant", "content": "!", "tool_calls": [{{"n": {number}}}]}}]'

    assert scanner(tmp_path).scan(called, "[]", None).reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("messages", "tools", "checks"),
    [
        ("[]", "[]", None),
        ("7", "[]", None),
        ('{"role": "user"}', "[]", None),
        (printed_json([{"role": "user", "content": "hi"}, {"role": "assistant", "content": ["so"]}]), "[]", None),
        (printed_json(chat("Who?", "Me.")), "[]", '[{"kind": "regex", "pattern": "a{99999999999999999999}"}]'),
        (printed_json(chat("Who?", "Me.")), "[]", '[{"kind": "regex", "pattern": "' + "(" * 900 + ")" * 900 + '"}]'),
        (printed_json(chat("Who?", "Me.")), "[]", '{"kind": "regex"}'),
        (printed_json(chat("Who?", "peter@hunter.example")), "1" * 400 + "e", None),
    ],
)
def test_what_no_contract_checked_is_malformed_and_stops_no_scan(
    tmp_path: Path, messages: str, tools: str, checks: str | None
) -> None:
    assert scanner(tmp_path).scan(messages, tools, checks).reason is Reason.MALFORMED
