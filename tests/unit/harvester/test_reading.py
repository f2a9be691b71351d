"""What is read in a record: its words, its passages, and whether it holds a benchmark's item."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from services.harvester.reading import grams
from services.harvester.reading.benchmarks import Benchmarks, passages
from services.harvester.reading.reader import COLUMNS, Reader, Stored
from services.harvester.reading.words import fingerprint, spoken, turns, words, words_of
from services.harvester.reasons import Reason
from services.harvester.redaction.policy import RedactionPolicy

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


def stored(messages: object, **values: object) -> Stored:
    return Stored(
        **{
            "karma": "k", "persona": "scribe", "touched": 1, "created_at": datetime(2026, 5, 1, tzinfo=UTC),
            "status": "white_truth", "session": "s", "parent": None, "source": "", "licence": "owner", "kind": "interaction",
            "feedback": None, "consented": True, "messages": orjson.dumps(messages).decode(), "tools": "[]", "checks": None,
            **values,
        }
    )  # type: ignore[arg-type]  # fmt: skip


def read(reader: Reader, *records: Stored) -> list[dict[str, object]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in reader.read(records)]


def reader(folder: Path, **values: object) -> Reader:
    return Reader(RedactionPolicy(), "key", folder, **values)  # type: ignore[arg-type]


def printed(messages: list[dict[str, str]]) -> bytes:
    return fingerprint(turns(messages), words(turns(messages)))


def test_words_are_the_same_whatever_their_case_spacing_and_form() -> None:
    assert words_of("  Straße\n ＡＢＣ  “so”") == words_of("STRASSE abc so")
    one = printed(chat("Who  is it?", "ME."))
    assert one == printed(chat("who is it?", "me.", "Another prompt."))
    others = [chat("Who is it? Me.", ""), chat("Who is it?", "Me!"), chat("Whois it?", "Me.")]
    assert one not in {printed(other) for other in others}


def test_the_system_prompt_is_not_said_but_a_tool_call_is() -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "run", "arguments": "{}"}}]}

    assert spoken([*chat("Go.", "Done!"), call]) == ["go", "done", "run"]


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

    assert benchmarks.within(b"he said the oldest of the seven bridges over the river is the stone one of course")
    assert not benchmarks.within(b"the oldest of the seven bridges over the river is the iron one")
    assert not benchmarks.within(b"it is late")
    assert not Benchmarks([]).within(b"anything")


def test_a_reading_says_what_keeps_a_record_out_and_holds_none_of_its_words(tmp_path: Path) -> None:
    token = "ghp" + "_" + "".join(random.Random(1).choices("abcdefghjkABCDEFGH23456789", k=36))
    clean, secret, personal, broken = read(
        reader(tmp_path),
        stored(chat("Why?", "Because.")),
        stored(chat("Which token?", f"Use {token} there.")),
        stored(chat("Whom to ask?", "Write to maria.keller@posteo.de please.")),
        stored([{"role": "user", "content": "?"}]),
    )

    assert (clean["reason"], clean["redacted"], clean["found"]) == (None, False, None)
    assert (secret["reason"], secret["found"]) == (Reason.SECRET, {"github_token": 1})
    assert (personal["reason"], personal["redacted"], personal["found"]) == (None, True, {"email": 1})
    assert broken["reason"] is Reason.MALFORMED
    assert token not in str(secret) and "keller" not in str(personal)


def test_the_content_digest_changes_with_everything_that_is_written(tmp_path: Path) -> None:
    one = stored(chat("Why?", "Because."))
    others = [
        one._replace(karma="other"),
        one._replace(session="other"),
        one._replace(parent="p"),
        one._replace(feedback="up"),
        one._replace(messages=one.messages + " "),
        one._replace(tools='[{"type": "function"}]'),
        one._replace(checks='[{"kind": "contains", "text": "a"}]'),
    ]
    digests = [row["content"] for row in read(reader(tmp_path), one, *others)]

    assert len(set(digests)) == len(digests)


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
