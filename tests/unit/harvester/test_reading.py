"""What is read in a record: its words, its passages, and whether it holds a benchmark's item."""

from __future__ import annotations

import json
import random
from pathlib import Path

import hyperscan
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from services.harvester.copied import NULL, escaped, plain
from services.harvester.patterns import met
from services.harvester.reading import grams
from services.harvester.reading.benchmarks import Benchmarks, passages
from services.harvester.reading.plainly import said_plainly
from services.harvester.reading.reader import COLUMNS, Reader
from services.harvester.reading.words import fingerprints, spoken, turns, words, words_of
from services.harvester.reasons import Reason
from services.harvester.redaction.policy import RedactionPolicy
from services.harvester.split import lineage_place

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


def stored(messages: object, **values: str | None) -> bytes:
    """A record as COPY writes it."""
    fields: dict[str, str | None] = {
        "messages": printed_json(messages), "checks": None, "tools": "[]", "karma": "k", "session": "s", "parent": None,
        "feedback": None, "source": "", "kind": "interaction", "persona": "scribe", "touched": "1",
        "created_at": "2026-05-01 00:00:00+00", "status": "white_truth", "licence": "owner", "consented": "t", **values,
    }  # fmt: skip
    return b"\t".join(NULL if value is None else escaped(value.encode()) for value in fields.values())


def printed_json(value: object) -> str:
    """As PostgreSQL prints a jsonb: a space after commas and colons, and shorter keys first."""
    return json.dumps(_shorter_first(value), ensure_ascii=False)


def _shorter_first(value: object) -> object:
    if isinstance(value, dict):
        return {key: _shorter_first(value[key]) for key in sorted(value, key=lambda key: (len(key), key))}
    return [_shorter_first(item) for item in value] if isinstance(value, list) else value


def read(reader: Reader, *records: bytes) -> list[dict[str, str | None]]:
    rows = (row.split(b"\t") for row in reader.read(records))
    return [
        {name: None if field == NULL else plain(field).decode() for name, field in zip(COLUMNS, row, strict=True)}
        for row in rows
    ]


def reader(folder: Path, **values: object) -> Reader:
    return Reader(RedactionPolicy(), "key", folder, **values)  # type: ignore[arg-type]


def printed(messages: list[dict[str, str]]) -> str:
    said = [turns(messages)]
    return fingerprints(said, words(said))[0]


def test_words_are_the_same_whatever_their_case_spacing_and_form() -> None:
    assert words_of("  Straße\n ＡＢＣ  “so”") == words_of("STRASSE abc so")
    one = printed(chat("Who  is it?", "ME."))
    assert one == printed(chat("who is it?", "me.", "Another prompt."))
    others = [chat("Who is it? Me.", ""), chat("Who is it?", "Me!"), chat("Whois it?", "Me.")]
    assert one not in {printed(other) for other in others}


def test_the_system_prompt_is_not_said_but_a_tool_call_is() -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "run", "arguments": "{}"}}]}

    assert spoken([*chat("Go.", "Done!"), call]) == ["go", "done", "run"]


@given(st.lists(st.text(max_size=20).map(lambda text: text.replace("\0", ""))))
def test_words_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    said = [text.encode("utf-8", "replace") for text in texts]

    assert words(said) == [words([one])[0] for one in said]
    assert words([b" \t a,b  \n", b"", b"...", b"C"]) == [b"a b", b"", b"", b"c"]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(0, 60))
def test_two_texts_share_the_sampled_passages_of_what_they_share(seed: int, before: int, after: int) -> None:
    shared = said(seed, 400)
    one, other = grams.sampled(
        [joined([*said(seed + 1, before), *shared]), joined([*shared, *said(seed + 2, after), "end"])]
    )
    alone = set(grams.sampled([joined(shared)])[0])

    assert alone and alone <= set(one) and alone <= set(other)
    assert len(alone) < 2 * 400 / grams.SAMPLED


def test_passages_do_not_reach_over_the_end_of_a_text() -> None:
    texts = [joined(said(number, 12)) for number in range(400)]

    assert grams.sampled([*texts, b""]) == [[]] * 401


def test_unlike_texts_share_no_passage_and_every_batch_reads_alike() -> None:
    texts = [joined(said(number, 300)) for number in range(50)]
    together = grams.sampled(texts)

    assert together == [grams.sampled([text])[0] for text in texts]
    assert not set(together[0]) & set(together[1])


def test_an_item_of_a_benchmark_is_found_inside_other_words(tmp_path: Path) -> None:
    items = [
        {
            "context": "The oldest of the seven bridges over the river is the",
            "choices": ["iron one", "stone one"],
            "answer": 1,
        },
        {"context": "It is", "choices": ["late"], "answer": 0},
    ]
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "items.jsonl").write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in items))
    benchmarks = Benchmarks(passages(tmp_path))

    said = [
        b"he said the oldest of the seven bridges over the river is the stone one of course",
        b"the oldest of the seven bridges over the river is the iron one",
        b"",
        b"it is late",
        b"the oldest of the seven bridges over the river is the",
        b"stone one",
        b"the oldest of the seven bridges over the river is the stone one",
    ]
    assert benchmarks.met(said) == {0, 6}
    assert Benchmarks([]).met([b"anything"]) == set()


def test_a_reading_says_what_keeps_a_record_out_and_holds_none_of_its_words(tmp_path: Path) -> None:
    token = "ghp" + "_" + "".join(random.Random(1).choices("abcdefghjkABCDEFGH23456789", k=36))
    clean, secret, personal, broken = read(
        reader(tmp_path),
        stored(chat("Why?", "Because.")),
        stored(chat("Which token?", f"Use {token} there.")),
        stored(chat("Whom to ask?", "Write to maria.keller@posteo.de please.")),
        stored([{"role": "user", "content": "?"}]),
    )

    assert (clean["reason"], clean["redacted"], clean["found"]) == (None, "f", None)
    assert (secret["reason"], secret["found"]) == (Reason.SECRET, '{"github_token":1}')
    assert (personal["reason"], personal["redacted"], personal["found"]) == (None, "t", '{"email":1}')
    assert broken["reason"] == Reason.MALFORMED
    assert token not in str(secret) and "keller" not in str(personal)


def test_the_content_digest_changes_with_everything_that_is_written(tmp_path: Path) -> None:
    said = chat("Why?", "Because.")
    others = [
        stored(said, karma="other"),
        stored(said, session="other"),
        stored(said, parent="p"),
        stored(said, feedback="up"),
        stored(said, source="other"),
        stored(said, kind="other"),
        stored(chat("Why?", "Because!")),
        stored(said, tools='[{"type": "function"}]'),
        stored(said, checks='[{"kind": "contains", "text": "a"}]'),
    ]
    unseen = [stored(said, status="revoked"), stored(said, touched="2"), stored(said, licence="none")]
    one, *digests = [row["content"] for row in read(reader(tmp_path), stored(said), *others)]

    assert len({one, *digests}) == 1 + len(others)
    assert {row["content"] for row in read(reader(tmp_path), *unseen)} == {one}


def test_every_record_is_read_as_it_is_read_alone(tmp_path: Path) -> None:
    """Records are read many at once: what is odd in one of them is said of no other."""
    words = said(7, 90)
    (tmp_path / "items.jsonl").write_bytes(
        orjson.dumps({"context": " ".join(words[:12]), "choices": [words[12]], "answer": 0})
    )
    tool = [{"type": "function", "function": {"name": "call", "description": "Call 030 555 1234 567."}}]
    usual = [stored(chat(f"Number {n}?", f'{" ".join(said(n, 60))} "{n}"\n'.replace("\\", ""))) for n in range(300)]
    odd = [
        stored(chat("Whom?", "Write to maria.keller@posteo.de please.")),
        stored(chat("Key?", "password = 'Hunter77!seven'")),
        stored([{"role": "user", "content": "Broken"}]),
        stored(["so", 1]),
        stored(chat("Straße?", "Überall, „dort“ — ÄÖ."), checks='[{"kind": "none"}]'),
        stored(chat("Straße?", "Überall, „dort“ — ÄÖ.")),
        stored(chat("Go.", " ".join(words)), checks='[{"kind": "contains", "text": "a"}]'),
        stored(chat("Tool?", "Yes."), tools=printed_json(tool)),
        stored(chat("?", "!")),
        stored(chat("Please call", "me.")),
        stored(chat("12345", "67 89 01 23 45 67")),
    ]
    records = [record for pair in zip(usual, odd * 28, strict=False) for record in pair]
    one = reader(tmp_path)

    together = one.read(records)

    assert together == [row for record in records for row in one.read([record])]
    rows = read(one, *odd)
    malformed, secret, contaminated = Reason.MALFORMED, Reason.SECRET, Reason.CONTAMINATED
    assert [row["reason"] for row in rows] == [
        None, secret, malformed, malformed, malformed, None, contaminated, None, None, None, None,
    ]  # fmt: skip
    assert all((row["text"] == row["content"]) is (row["reason"] == malformed) for row in rows)


def test_a_pattern_at_the_end_of_a_text_is_met_in_that_one() -> None:
    database = hyperscan.Database()
    database.compile(expressions=[rb"a(?:$|\W)", b"b.*c"])

    assert met(database, hyperscan.Scratch(database), [b"a", b"", b"cb", b"ca", b"bc", b"d"]) == {0, 3, 4}
    assert met(database, hyperscan.Scratch(database), []) == set()


TALK = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), TALK), max_size=5))
def test_what_is_said_plainly_is_what_was_said(said: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": text} for role, text in said]

    plainly = said_plainly(printed_json(messages).replace("\x7f", "\\u007f").encode())

    assert plainly in (None, turns(messages))
    usual = said and said[-1][0] == "assistant" and said[-1][1] and "user" in dict(said) and "tool" not in dict(said)
    if not usual:
        assert plainly is None
    elif all(text.isprintable() and "\\" not in text for _, text in said):
        assert plainly is not None


def test_what_is_said_plainly_keeps_quotation_marks_and_line_breaks() -> None:
    messages = chat('Say "so".', 'First:\n\t"yes"\r\nthen ünd.')

    assert said_plainly(printed_json(messages).encode()) == turns(messages) is not None
    assert said_plainly(printed_json(chat("Why?", "C:\\new")).encode()) is None
    assert said_plainly(printed_json([{**message, "name": "n"} for message in messages]).encode()) is None


def test_a_record_passes_through_a_reading_as_it_came(tmp_path: Path) -> None:
    """Tabs, line breaks and backslashes in names included."""
    (row,) = read(reader(tmp_path), stored(chat("Why?", "So."), karma="a\tb\\c\nd", session="ü\t", source="\\N"))

    assert (row["karma"], row["session"], row["source"], row["parent"]) == ("a\tb\\c\nd", "ü\t", "\\N", None)
    assert row["place"] == repr(lineage_place("key", "scribe", "ü\t"))


def test_another_policy_or_other_benchmarks_are_another_way_of_reading(tmp_path: Path) -> None:
    ways = {
        reader(tmp_path).policy,
        reader(tmp_path, with_bands=False).policy,
        Reader(RedactionPolicy(), "k", tmp_path).policy,
    }
    ways.add(Reader(RedactionPolicy(secrets="redact"), "key", tmp_path).policy)
    (tmp_path / "items.jsonl").write_bytes(
        orjson.dumps({"context": "one two three four five six seven", "choices": ["eight"], "answer": 0})
    )
    ways.add(reader(tmp_path).policy)

    assert len(ways) == 5
