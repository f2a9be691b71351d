"""The harvest on a real database: reproducible, with nothing on both sides of the split, and every record accounted for."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.harvester import harvest as harvest_module
from services.harvester.harvest import harvest, harvest_connection
from services.harvester.policy import HarvestPolicy, Lengths, Prompts, Shares
from services.harvester.request import HarvestRequest
from services.harvester.split import Split
from shared.config.settings import Settings
from shared.contracts.intent import TrainingIntent
from shared.contracts.karma import Status
from shared.redaction.sensitive import Sensitive
from shared.storage.artifacts import Artifacts
from shared.storage.digests import digest_tree
from shared.storage.postgres import UNREACHABLE, Pool
from tests.support.corpora.values import draw
from tests.support.harvests import (
    SUITES,
    example,
    harvested,
    open_rows,
    reasons,
    record,
    remember,
    sealed_rows,
    session_on,
    side_of_session,
)
from tests.support.running import eventually

SCRIBE = example("scribe")
VOCABULARY = [f"word{number}" for number in range(2000)]
TRAIN, HELD = session_on(Split.TRAIN), session_on(Split.HOLDOUT)


async def test_the_same_karma_in_another_order_gives_the_same_digests(pool: Pool, admin: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    first, _ = await harvested(pool, tmp_path / "one")
    await admin.execute("DELETE FROM vectors.karma")
    await admin.execute("TRUNCATE sealed, revocation")
    for some in random.Random(1).sample(SCRIBE, len(SCRIBE)):
        await remember(pool, [some])

    second, _ = await harvested(pool, tmp_path / "two")

    assert (second.manifest, second.holdout) == (first.manifest, first.holdout)


async def test_a_second_harvest_at_the_same_mark_gives_the_same_digests_and_leaves_nothing_else(
    pool: Pool, tmp_path: Path
) -> None:
    await remember(pool, SCRIBE)
    first, _ = await harvested(pool, tmp_path)

    second, _ = await harvested(pool, tmp_path)

    artifacts = Artifacts(tmp_path)
    assert (second.manifest, second.holdout) == (first.manifest, first.holdout)
    assert [path.name for path in artifacts.manifest(first.manifest).parent.iterdir()] == [first.manifest[7:]]
    assert list(artifacts.scratch().iterdir()) == []


async def test_a_mark_in_the_intent_leaves_out_what_came_later(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    mark = max(str(one.created_at) for one in SCRIBE).replace(" ", "T")
    first, _ = await harvested(pool, tmp_path, until=mark)
    await remember(pool, [record("late", "later", "What now?", "Rest.", created_at="2027-01-01T00:00:00Z")])

    again, _ = await harvested(pool, tmp_path, until=mark)
    without, _ = await harvested(pool, tmp_path)

    assert (again.manifest, again.holdout) == (first.manifest, first.holdout)
    assert without.seen == first.seen + 1


async def test_the_digests_name_the_directories(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    found, _ = await harvested(pool, tmp_path)

    assert digest_tree(Artifacts(tmp_path).manifest(found.manifest)) == found.manifest
    assert digest_tree(Artifacts(tmp_path).holdout(found.holdout)) == found.holdout


async def test_every_record_is_used_or_excluded_with_a_reason(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)

    found, _ = await harvested(pool, tmp_path)

    used = [row["id"] for row in open_rows(tmp_path, found) + open_rows(tmp_path, found, "dev")]
    used += [row["id"] for row in sealed_rows(tmp_path, found)]
    assert sorted([*used, *await reasons(pool)]) == sorted(one.id for one in SCRIBE)
    assert found.seen == len(SCRIBE) == found.used + sum(found.excluded.values())
    assert found.excluded.keys() == {"duplicate", "revoked", "superseded", "unconsecrated"}


async def test_no_session_and_no_text_is_on_both_sides(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    found, _ = await harvested(pool, tmp_path)

    train, held_out = open_rows(tmp_path, found), sealed_rows(tmp_path, found)

    assert train and held_out
    assert not {row["session"] for row in train} & {row["session"] for row in held_out}
    assert not {str(row["messages"]) for row in train} & {str(row["messages"]) for row in held_out}
    assert not list(Artifacts(tmp_path).manifest(found.manifest).rglob("holdout*"))


async def test_a_duplicate_of_a_sealed_record_is_never_trained_on(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    before, _ = await harvested(pool, tmp_path)
    sealed = sealed_rows(tmp_path, before)[0]
    original = next(one for one in SCRIBE if one.id == sealed["id"])
    copies = [
        original.model_copy(update={"id": f"a-copy-{n}", "session": f"copies-{n}", "created_at": SCRIBE[0].created_at})
        for n in range(20)
    ]
    await remember(pool, copies)

    after, _ = await harvested(pool, tmp_path)

    assert after.rows == before.rows
    assert after.excluded["duplicate"] == before.excluded["duplicate"] + 20
    assert sealed["id"] in {row["id"] for row in sealed_rows(tmp_path, after)}


async def test_near_duplicates_on_both_sides_of_the_split_end_up_on_one(pool: Pool, tmp_path: Path) -> None:
    words = random.Random(5)
    karma, twins = [], {}
    for number in range(60):
        question, answer = (" ".join(words.choices(VOCABULARY, k=40)) for _ in range(2))
        names = [f"first-{number}", f"second-{number}"]
        karma.append(record(names[0], f"early-{number}", question, answer))
        karma.append(record(names[1], f"late-{number}", f"please {question}", f"{answer} thanks"))
        twins[number] = names
    await remember(pool, karma)

    found, _ = await harvested(pool, tmp_path)

    side = {row["id"]: "holdout" for row in sealed_rows(tmp_path, found)}
    for file in ("train", "dev"):
        side |= {row["id"]: file for row in open_rows(tmp_path, found, file)}
    places = {one.id: side_of_session(one.session) for one in karma}
    assert sum(places[first] != places[second] for first, second in twins.values()) > 10, "pairs do cross the line"
    assert all(len({first, second} & side.keys()) == 1 for first, second in twins.values())
    assert all(
        side[next(iter({first, second} & side.keys()))] == "holdout"
        for first, second in twins.values()
        if "holdout" in (places[first], places[second])
    )
    assert found.excluded == {"near_duplicate": 60}


@pytest.mark.parametrize(("times", "stays"), [((2, 1), "b"), ((1, 2), "a"), ((1, 1), "a")])
async def test_of_near_duplicates_the_oldest_stays_and_at_one_time_the_first_id(
    pool: Pool, tmp_path: Path, times: tuple[int, int], stays: str
) -> None:
    text = " ".join(random.Random(6).choices(VOCABULARY, k=60))
    for id, end, day in zip("ba", ("lantern", "harbour"), times[::-1], strict=True):
        await remember(pool, [record(id, TRAIN, "Say it.", f"{text} {end}", created_at=f"2026-05-{day:02d}T00:00:00Z")])

    found, _ = await harvested(pool, tmp_path)

    assert [row["id"] for row in open_rows(tmp_path, found)] == [stays]
    assert list((await reasons(pool)).values()) == ["near_duplicate"]


async def test_what_was_sealed_stays_sealed_when_its_session_is_joined_to_another(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    before, _ = await harvested(pool, tmp_path)
    sealed = sealed_rows(tmp_path, before)
    trained = open_rows(tmp_path, before)[0]
    parent = next(one for one in SCRIBE if one.id == trained["id"])
    bridge = parent.model_copy(
        update={"id": "bridge", "session": sealed[0]["session"], "parent": parent.id, "status": Status.SPECULATIVE}
    )
    await remember(pool, [bridge])

    after, _ = await harvested(pool, tmp_path)

    assert {row["id"] for row in sealed} <= {row["id"] for row in sealed_rows(tmp_path, after)}
    assert trained["id"] not in {row["id"] for row in open_rows(tmp_path, after)}


async def test_what_was_sealed_stays_sealed_under_a_policy_with_a_smaller_holdout(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    before, _ = await harvested(pool, tmp_path)
    small = HarvestPolicy.model_validate({"split": {"holdout": 0.01}, "likeness": {"by_meaning": False}})

    after, _ = await harvested(pool, tmp_path, policy=small)

    assert {row["id"] for row in sealed_rows(tmp_path, after)} == {row["id"] for row in sealed_rows(tmp_path, before)}


async def test_a_record_that_was_deleted_and_came_back_after_its_revocation_stays_out(
    pool: Pool, tmp_path: Path
) -> None:
    gone = next(one for one in SCRIBE if one.status is Status.WHITE_TRUTH)
    copy = gone.model_copy(update={"id": "copy", "session": "elsewhere"})
    await remember(pool, [*SCRIBE, copy])
    await pool.execute("INSERT INTO revocation (karma, revoked_by) VALUES ($1, 'ida')", gone.id)

    found, _ = await harvested(pool, tmp_path)

    everything = "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    assert f'"{gone.id}"' not in everything and '"copy"' not in everything
    assert found.excluded["repeats_revoked"] == 1


async def test_a_correction_makes_a_fixed_target_and_a_preference_pair(pool: Pool, tmp_path: Path) -> None:
    wrong = record("wrong", TRAIN, "How do I list files?", "Use dir.", status=Status.SPECULATIVE, consecrated_by=None)
    right = record("right", TRAIN, "How do I list files?", "Use ls.", parent="wrong")
    went_on = right.model_copy(
        update={
            "id": "went-on",
            "messages": (
                *wrong.messages,
                right.messages[1].model_copy(update={"content": "No, on Unix."}),
                right.messages[2].model_copy(update={"content": "On Unix: ls."}),
            ),
        }
    )
    await remember(pool, [wrong, right, went_on])

    found, _ = await harvested(pool, tmp_path)

    trained = {row["id"]: row["messages"][1:] for row in open_rows(tmp_path, found)}
    question = {"role": "user", "content": "How do I list files?"}
    assert trained == {
        "right": [question, {"role": "assistant", "content": "Use ls."}],
        "went-on": [question, {"role": "assistant", "content": "On Unix: ls."}],
    }
    pairs = {
        row["id"]: (row["prompt"][-1], row["chosen"], row["rejected"]) for row in open_rows(tmp_path, found, "pairs")
    }
    rejected = [{"role": "assistant", "content": "Use dir."}]
    assert pairs["right"] == (question, [{"role": "assistant", "content": "Use ls."}], rejected)
    assert pairs["went-on"] == (question, [{"role": "assistant", "content": "On Unix: ls."}], rejected)


async def test_a_correction_in_dev_is_a_held_out_pair_and_one_in_the_holdout_none(pool: Pool, tmp_path: Path) -> None:
    sides = {"t": TRAIN, "d": session_on(Split.DEV), "h": HELD}
    for name, session in sides.items():
        asked, wrong = f"How do I list the files of {name * 9}?", f"{name}-wrong"
        unvouched: dict[str, Any] = {"status": Status.SPECULATIVE, "consecrated_by": None}
        await remember(pool, [record(wrong, session, asked, "Use dir.", **unvouched)])
        await remember(pool, [record(f"{name}-right", session, asked, f"Use ls {name * 9}.", parent=wrong)])

    found, _ = await harvested(pool, tmp_path)

    pairs = {file: [row["id"] for row in open_rows(tmp_path, found, file)] for file in ("pairs", "dev_pairs")}
    assert pairs == {"pairs": ["t-right"], "dev_pairs": ["d-right"]}
    assert [row["id"] for row in sealed_rows(tmp_path, found)] == ["h-right"]


async def test_thumbs_become_unpaired_labels_and_a_disliked_answer_is_no_target(pool: Pool, tmp_path: Path) -> None:
    await remember(
        pool,
        [
            record("good", TRAIN, "Is it late?", "Yes, rest.", feedback="up"),
            record("bad", TRAIN, "Is it early?", "Who cares.", feedback="down"),
            record("held", HELD, "Is it noon?", "It may be.", feedback="down"),
        ],
    )

    found, _ = await harvested(pool, tmp_path)

    assert [row["id"] for row in open_rows(tmp_path, found)] == ["good"]
    labels = {
        row["id"]: (row["completion"][0]["content"], row["label"]) for row in open_rows(tmp_path, found, "labels")
    }
    assert labels == {"good": ("Yes, rest.", True), "bad": ("Who cares.", False)}
    assert found.excluded == {"disliked": 1}


async def test_rows_say_which_system_prompt_they_are_trained_with(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, SCRIBE)
    policy = HarvestPolicy(prompts=Prompts(full=0.3, short=0.3))

    found, _ = await harvested(pool, tmp_path, policy=policy)

    trained = open_rows(tmp_path, found)
    forms = [row["prompt"] for row in trained]
    assert all(0.15 < forms.count(form) / len(forms) < 0.55 for form in ("full", "short", "none"))
    short = next(row for row in trained if row["prompt"] == "short")
    assert short["messages"][0]["content"].startswith(short["short_prompt"])
    assert short["short_prompt"].endswith(".") and len(short["short_prompt"]) < len(short["messages"][0]["content"])
    assert "prompt" not in sealed_rows(tmp_path, found)[0]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"kind": "chatter"}, "filtered"),
        ({"source": "another"}, "filtered"),
        ({"created_at": "2025-01-01T00:00:00Z"}, "filtered"),
        ({"purposes": ["retrieval"]}, "no_consent"),
        ({"licence": "all rights reserved"}, "licence"),
        ({"status": "speculative"}, "unconsecrated"),
    ],
)
async def test_what_is_not_asked_for_or_not_allowed_is_excluded(
    pool: Pool, tmp_path: Path, values: dict[str, object], reason: str
) -> None:
    await remember(pool, [record("one", TRAIN, "Why?", "Because."), record("other", TRAIN, "How?", "So.", **values)])

    found, _ = await harvested(
        pool, tmp_path, kinds=("interaction",), sources=("import",), since="2026-01-01T00:00:00Z"
    )

    assert found.excluded == {reason: 1}
    assert [row["id"] for row in open_rows(tmp_path, found)] == ["one"]


async def test_secrets_are_quarantined_and_personal_data_redacted_with_counts_per_class(
    pool: Pool, tmp_path: Path
) -> None:
    chance = random.Random(9)
    token, address = draw(chance, Sensitive.GITHUB_TOKEN), draw(chance, Sensitive.EMAIL)
    await remember(
        pool,
        [
            record("clean", TRAIN, "Why?", "Because."),
            record("secret", TRAIN, f"Which token is it? {token}", "That one."),
            record("personal", TRAIN, f"Write to {address}.", f"Written to {address}."),
        ],
    )

    found, _ = await harvested(pool, tmp_path)

    assert found.excluded == {"secret": 1} and found.redacted == 1
    trained = {row["id"]: row["messages"][1:] for row in open_rows(tmp_path, found)}
    assert [message["content"] for message in trained["personal"]] == ["Write to [e-mail].", "Written to [e-mail]."]
    manifest = json.loads((Artifacts(tmp_path).manifest(found.manifest) / "manifest.json").read_text())
    assert manifest["statistics"]["redacted"] == {"email": 2}
    assert manifest["statistics"]["quarantined"] == {"github_token": 1}
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (token, address):
        assert text.encode() not in everything


async def test_nothing_that_a_record_carries_reaches_a_manifest_raw(pool: Pool, tmp_path: Path) -> None:
    chance = random.Random(10)
    token, address, phone = (draw(chance, kind) for kind in (Sensitive.GITHUB_TOKEN, Sensitive.EMAIL, Sensitive.PHONE))
    checked = {"checks": [{"kind": "contains", "text": address}], "evidence": f"{address} wrote back"}
    spoken = [f"{phone} {letter}" for letter in "ab"]
    await remember(
        pool,
        [
            record("checked", TRAIN, "Whom do I ask?", f"Write to {address} now.", outcome=checked),
            record("token", TRAIN, "And then?", "Rest.", outcome={"checks": [{"kind": "contains", "text": token}]}),
            record("why", TRAIN, "Why so?", "It works.", why=f"the token {token} works"),
            record("pattern", TRAIN, "Ask whom?", f"Ask {address}.", outcome={"checks": [
                {"kind": "regex", "pattern": f".*{address.partition('@')[2]}.*"}]}),
            record(f"mail of {address}", spoken[0], "One?", "Only one.", source=f"forum of {address}"),
            record("other", spoken[1], "Two?", "There are two.", source=f"forum of {address}"),
        ],
    )  # fmt: skip

    found, _ = await harvested(pool, tmp_path)

    assert await reasons(pool) == {"token": "secret", "why": "secret", "pattern": "personal"}
    rows = [*open_rows(tmp_path, found), *open_rows(tmp_path, found, "dev"), *sealed_rows(tmp_path, found)]
    shown = {row["messages"][1]["content"]: row for row in rows}
    assert shown["Whom do I ask?"]["checks"] == [{"kind": "contains", "text": "[e-mail]"}]
    assert {row["id"] for row in rows} == {"checked", "mail of [e-mail] 1", "other"}
    assert {row["session"] for row in rows} == {TRAIN, "[phone number] a 1", "[phone number] b 1"}
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (token, address, phone):
        assert text.encode() not in everything


async def test_rows_state_why_they_were_chosen_and_by_whom_with_placeholders_where_needed(
    pool: Pool, tmp_path: Path
) -> None:
    chance = random.Random(11)
    addresses = [draw(chance, Sensitive.EMAIL) for _ in range(2)]
    known = {"evidence": f"{addresses[0]} confirmed it"}
    await remember(
        pool,
        [
            record(
                "one",
                TRAIN,
                "Why?",
                "Because.",
                why=f"as {addresses[0]} asked",
                outcome=known,
                consecrated_by=addresses[0],
            ),
            record("two", TRAIN, "How?", "So.", consecrated_by=addresses[1]),
            record("three", TRAIN, "When?", "Now.", why="it was right"),
            record("held", HELD, "Where?", "Here.", why="seen", consecrated_by=addresses[1]),
        ],
    )

    found, _ = await harvested(pool, tmp_path)

    stated = {
        row["id"]: (row["why"], row["evidence"], row["consecrated_by"])
        for row in [*open_rows(tmp_path, found), *sealed_rows(tmp_path, found)]
    }
    first, second = stated["one"][2], stated["two"][2]
    assert {first, second} == {"[e-mail] 1", "[e-mail] 2"}, "who vouches stays one name"
    assert stated == {
        "one": ("as [e-mail] asked", "[e-mail] confirmed it", first),
        "two": ("", "", second),
        "three": ("it was right", "", "ida"),
        "held": ("seen", "", second),
    }
    manifest = Artifacts(tmp_path).manifest(found.manifest) / "manifest.json"
    counted = json.loads(manifest.read_text())["statistics"]
    assert counted["stated"] == {"why": 2, "evidence": 1}
    assert counted["consecrated_by"] == {first: 1, second: 1, "ida": 1}
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not [address for address in addresses if address.encode() in everything]


async def test_with_another_policy_a_secret_is_redacted_and_the_record_used(pool: Pool, tmp_path: Path) -> None:
    token = draw(random.Random(9), Sensitive.GITHUB_TOKEN)
    await remember(pool, [record("secret", TRAIN, f"Which token is it? {token}", "That one.")])
    await harvested(pool, tmp_path)
    policy = HarvestPolicy.model_validate({"redaction": {"secrets": "redact"}, "likeness": {"by_meaning": False}})

    found, _ = await harvested(pool, tmp_path, policy=policy)

    assert found.excluded == {}
    assert open_rows(tmp_path, found)[0]["messages"][1]["content"] == "Which token is it? [github token]"


async def test_only_what_the_query_found_is_used(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, [record("one", TRAIN, "Why?", "Because."), record("other", TRAIN, "How?", "So.")])

    found, _ = await harvested(pool, tmp_path, wanted=["other"])

    assert [row["id"] for row in open_rows(tmp_path, found)] == ["other"]
    assert found.excluded == {"filtered": 1}


async def test_a_row_that_is_no_conversation_is_excluded_and_stops_nothing(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, [record("one", TRAIN, "Why?", "Because.")])
    for id, messages in {"empty": "[]", "no-list": '{"a": 1}', "no-answer": '[{"role":"user","content":"?"}]'}.items():
        await pool.execute(
            "INSERT INTO vectors.karma (id, persona, messages, status, consecrated_by, session) "
            "VALUES ($1, 'scribe', $2::text::jsonb, 'white_truth', 'ida', 's')",
            id,
            messages,
        )

    found, _ = await harvested(pool, tmp_path)

    assert found.excluded == {"malformed": 3}


@pytest.mark.parametrize("pattern", ["a{99999999999999999999}", "(" * 900 + ")" * 900, "a" * 5000])
async def test_a_row_whose_check_does_not_compile_is_excluded_and_stops_nothing(
    pool: Pool, tmp_path: Path, pattern: str
) -> None:
    await remember(pool, [record("one", TRAIN, "Why?", "Because."), record("other", TRAIN, "How?", "So.")])
    outcome = {"checks": [{"kind": "regex", "pattern": pattern}]}
    await pool.execute("UPDATE vectors.karma SET outcome = $1 WHERE id = 'other'", outcome)

    found, _ = await harvested(pool, tmp_path)

    assert [row["id"] for row in open_rows(tmp_path, found)] == ["one"]
    assert found.excluded == {"malformed": 1}


async def test_a_row_whose_pattern_never_ends_is_excluded_with_that_reason(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, [record("one", TRAIN, "Why?", "Because."), record("other", TRAIN, "How?", "a" * 4000)])
    outcome = {"checks": [{"kind": "regex", "pattern": "(a|aa)+$b"}]}
    await pool.execute("UPDATE vectors.karma SET outcome = $1 WHERE id = 'other'", outcome)

    found, _ = await harvested(pool, tmp_path)

    assert [row["id"] for row in open_rows(tmp_path, found)] == ["one"]
    assert found.excluded == {"slow_pattern": 1}


@pytest.mark.parametrize("column", ["created_at", "consecrated_at"])
@pytest.mark.parametrize("time", ["infinity", "-infinity", "294276-01-01 UTC", "0001-01-01 UTC"])
async def test_a_time_that_nothing_computes_with_is_refused_by_the_table(pool: Pool, column: str, time: str) -> None:
    await remember(pool, [record("one", TRAIN, "Why?", "Because.")])

    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute(f"UPDATE vectors.karma SET {column} = '{time}'")


async def test_what_is_written_is_what_was_scanned_though_records_change_meanwhile(
    pool: Pool, admin: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what was judged clean could be written with a secret in it."""
    token = draw(random.Random(9), Sensitive.GITHUB_TOKEN)
    await remember(pool, [record("one", TRAIN, "Why?", "Because."), record("other", TRAIN, "How?", "So.")])
    admit = harvest_module.admit

    async def admit_and_change(*values: Any) -> None:
        await admit(*values)
        changed = json.dumps([{"role": "user", "content": "Which?"}, {"role": "assistant", "content": token}])
        await pool.execute("UPDATE vectors.karma SET messages = $1::text::jsonb WHERE id = 'other'", changed)
        await admin.execute("DELETE FROM vectors.karma WHERE id = 'one'")

    with monkeypatch.context() as patch:
        patch.setattr(harvest_module, "admit", admit_and_change)
        found, _ = await harvested(pool, tmp_path)
    later, _ = await harvested(pool, tmp_path)

    assert {row["id"]: row["messages"][-1]["content"] for row in open_rows(tmp_path, found)} == {
        "one": "Because.",
        "other": "So.",
    }
    assert (later.seen, later.excluded) == (1, {"secret": 1})
    assert token.encode() not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM vectors.karma WHERE id = 'other'", "UPDATE vectors.karma SET persona = 'b' WHERE id = 'other'"],
)
async def test_a_record_that_is_gone_is_in_no_later_manifest_and_one_that_comes_back_is(
    pool: Pool, admin: Pool, tmp_path: Path, change: str
) -> None:
    both = [record("one", TRAIN, "Why?", "Because."), record("other", TRAIN, "How?", "So.")]
    await remember(pool, both)
    await harvested(pool, tmp_path)
    await admin.execute(change)

    found, _ = await harvested(pool, tmp_path)
    await admin.execute("DELETE FROM vectors.karma WHERE id = 'other'")
    await remember(pool, both[1:])
    again, _ = await harvested(pool, tmp_path)

    assert (found.seen, found.rows["train"]) == (1, 1)
    assert (again.seen, again.rows["train"]) == (2, 2)


async def test_nothing_of_a_harvest_is_left_in_the_database_but_its_results(
    pool: Pool, settings: Settings, tmp_path: Path
) -> None:
    await remember(pool, SCRIBE)
    request = HarvestRequest("scribe", TrainingIntent(persona="scribe"), HarvestPolicy(), SUITES)
    async with harvest_connection(settings.database_url("harvester"), "scribe") as conn:
        await harvest(conn, request, Artifacts(tmp_path), lambda *_: None)
        assert await temporary_tables(pool) == {"scanned", "admission"}

    async def gone() -> bool:  # a server process takes its temporary tables along when it ends
        return not await temporary_tables(pool)

    await eventually(gone, 10, "the temporary tables are gone")


async def temporary_tables(pool: Pool) -> set[str]:
    rows = await pool.fetch(
        "SELECT relname FROM pg_class WHERE relpersistence = 't' AND relname IN ('scanned', 'admission')"
    )
    return {row["relname"] for row in rows}


async def test_a_second_harvest_of_a_persona_waits_for_the_first(settings: Settings) -> None:
    database = settings.database_url("harvester")
    async with harvest_connection(database, "scribe"), harvest_connection(database, "coder"):
        with pytest.raises(UNREACHABLE):
            async with harvest_connection(database, "scribe"):
                raise AssertionError("two harvests of one persona at a time")


async def test_karma_that_holds_a_benchmark_item_is_not_used(pool: Pool, tmp_path: Path) -> None:
    item = "The opposite of heaven is hell. The opposite of early is late"
    await remember(
        pool, [record("one", TRAIN, "Why?", "Because."), record("leak", TRAIN, "Teach me.", f"Well: {item}, you see.")]
    )

    found, _ = await harvested(pool, tmp_path)

    assert found.excluded == {"contaminated": 1}


async def test_a_passage_of_the_holdout_is_not_trained_on_but_boilerplate_is(pool: Pool, tmp_path: Path) -> None:
    words = random.Random(3)

    def text(length: int) -> str:
        return " ".join(words.choices(VOCABULARY, k=length))

    passage, boilerplate = text(90), text(90)
    karma = [
        record("held", HELD, text(150), f"{text(150)} {passage} {text(150)} {boilerplate}"),
        record("leak", TRAIN, text(150), f"{text(200)} {passage} {text(200)}"),
        record("clean", TRAIN, text(200), text(200)),
        *(record(f"usual-{n}", f"many-{n}", text(150), f"{text(200)} {boilerplate} {text(200)}") for n in range(40)),
    ]
    await remember(pool, karma)

    found, _ = await harvested(pool, tmp_path)

    assert {row["id"] for row in sealed_rows(tmp_path, found)} >= {"held"}
    assert found.excluded == {"contaminated": 1}
    trained = {row["id"] for row in open_rows(tmp_path, found)}
    assert "leak" not in trained and "clean" in trained and len(trained) > 20


async def test_one_session_cannot_crowd_out_the_others(pool: Pool, tmp_path: Path) -> None:
    flood = [record(f"flood-{n}", TRAIN, f"Say number {n} {n * 7}.", f"{n * 13} it is, {n}.") for n in range(60)]
    await remember(pool, flood)
    policy = HarvestPolicy.model_validate(
        {"shares": Shares(session=0.1, session_floor=20), "likeness": {"by_words": False, "by_meaning": False}}
    )

    found, _ = await harvested(pool, tmp_path, policy=policy)

    assert found.excluded == {"session_share": 40}
    assert found.rows["train"] == 20


async def test_a_source_is_held_to_its_share(pool: Pool, tmp_path: Path) -> None:
    karma = [
        record(f"{source}-{n}", f"{source}-{n}", f"Tell {n} of {source}.", f"{n * 17} {source} {n}", source=source)
        for source in ("web", "home")
        for n in range(100)
    ]
    await remember(pool, karma)
    policy = HarvestPolicy.model_validate({"shares": {"sources": {"web": 0.1}}, "likeness": {"by_words": False}})

    found, _ = await harvested(pool, tmp_path, policy=policy)

    trained = [row["id"].split("-")[0] for row in open_rows(tmp_path, found)]
    assert trained.count("web") == int(0.1 * (found.rows["train"] + found.excluded["source_share"]))
    assert trained.count("home") > 60


async def test_lengths_are_held_to_the_row_and_to_the_budget(pool: Pool, tmp_path: Path) -> None:
    await remember(
        pool,
        [
            record("long", TRAIN, "Go on.", "so " * 400),
            record("old", TRAIN, "Say a.", "Apple pie.", created_at="2026-01-01T00:00:00Z"),
            record("new", TRAIN, "Say b.", "Bread.", created_at="2026-02-01T00:00:00Z"),
        ],
    )

    found, _ = await harvested(pool, tmp_path, policy=HarvestPolicy(lengths=Lengths(row=200, budget=60)))

    assert found.excluded == {"too_long": 1, "over_budget": 1}
    assert [row["id"] for row in open_rows(tmp_path, found)] == ["new"]


async def test_a_persona_without_karma_is_refused_with_what_is_missing(pool: Pool, tmp_path: Path) -> None:
    _, missing = await harvested(pool, tmp_path)

    assert "no karma" in str(missing)


async def test_when_everything_is_filtered_the_refusal_says_by_what(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, [record("one", TRAIN, "Why?", "Because.", licence="none")])

    _, missing = await harvested(pool, tmp_path)

    assert "none of 1 records can be used: 1 licence (one): `harvest.licences` in soulforge.toml accepts owner" in str(
        missing
    )


async def test_a_missing_holdout_is_said(pool: Pool, tmp_path: Path) -> None:
    await remember(pool, [record("one", TRAIN, "Why?", "Because.")])

    _, missing = await harvested(pool, tmp_path)

    assert "no viable holdout: 0 records in it, 1 needed" in str(missing)
