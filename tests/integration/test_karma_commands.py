"""`soulforge karma consecrate|reject|correct` as a person gives them, with a real harvester."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.harvester.views import list_karma
from shared.config.settings import Settings
from shared.contracts.karma import ChatMessage, KarmaRecord, Status
from shared.storage.postgres import Pool
from tests.support.consents import HARVESTER, Tell, status, told
from tests.support.harvests import remember
from tests.support.services import running

__all__ = ["told"]  # the fixture


def speculative(id: str) -> KarmaRecord:
    messages = [{"role": "user", "content": "Oil the gate."}, {"role": "assistant", "content": f"answer {id}"}]
    return KarmaRecord.model_validate({"id": id, "persona": "scribe", "session": "s", "messages": messages})


def last(shown: str) -> str:
    """The last line: the service logs to the same terminal here."""
    return shown.strip().rpartition("\n")[2]


@pytest.fixture
async def harvester(settings: Settings, pool: Pool) -> AsyncIterator[None]:
    await remember(pool, [speculative(name) for name in ("a", "b", "c")])
    async with running(HARVESTER, settings):
        yield


@pytest.mark.usefixtures("harvester")
async def test_records_are_consecrated_and_rejected_by_name(told: Tell, pool: Pool) -> None:
    code, shown, _ = await told("karma", "reject", "a", "b", "--why", "wrong")
    assert (code, last(shown)) == (0, "2 rejected, 0 already")
    assert [await status(pool, name) for name in "abc"] == ["rejected", "rejected", "speculative"]

    Path("ids").write_text("b\nc\n")
    code, shown, _ = await told("karma", "consecrate", "--from", "ids", "--by", "ida", "--why", "right after all")
    assert (code, last(shown)) == (0, "2 consecrated, 0 already")
    assert [await status(pool, name) for name in "abc"] == ["rejected", "white_truth", "white_truth"]
    record = (await list_karma(pool, ["b"]))["b"]
    assert (record.consecrated_by, record.why) == ("ida", "right after all")
    assert last((await told("karma", "consecrate", "b", "--by", "me"))[1]) == "0 consecrated, 1 already"

    code, _, error = await told("karma", "reject", "a", "b")
    assert code == 1 and "b is consecrated" in error and "karma revoke" in error
    code, shown, _ = await told("karma", "stats")
    assert code == 0 and "rejected" in shown


@pytest.mark.usefixtures("harvester")
async def test_the_speculative_records_of_a_source_are_consecrated(told: Tell, pool: Pool) -> None:
    await remember(pool, [speculative(id).model_copy(update={"source": "openai:file-1"}) for id in ("d", "e", "f")])
    await pool.execute("UPDATE vectors.karma SET persona = 'coder' WHERE id = 'e'")
    await pool.execute("UPDATE vectors.karma SET status = 'rejected' WHERE id = 'f'")
    of_source = ("karma", "consecrate", "--source", "openai:file-1", "--by", "ida")

    code, shown, _ = await told(*of_source, "--persona", "scribe")
    assert (code, last(shown)) == (0, "1 consecrated, 0 already")
    assert [await status(pool, id) for id in "adef"] == ["speculative", "white_truth", "speculative", "rejected"]
    assert last((await told(*of_source))[1]) == "1 consecrated, 0 already"

    code, _, error = await told(*of_source)
    assert code == 1 and "no speculative record has the source openai:file-1" in error
    assert (await told(*of_source, "a"))[0] == 1
    assert (await told("karma", "consecrate", "a", "--persona", "scribe", "--by", "ida"))[0] == 1


@pytest.mark.usefixtures("harvester")
async def test_a_correction_is_a_white_truth_whose_parent_it_corrects(
    told: Tell, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("answer").write_text("Oiled.\n")
    code, shown, _ = await told("karma", "correct", "a", "answer", "--by", "ida")
    assert code == 0
    record = (await list_karma(pool, [last(shown)]))[last(shown)]
    assert (record.parent, record.status, record.consecrated_by) == ("a", Status.WHITE_TRUTH, "ida")
    assert [message.content for message in record.messages] == ["Oil the gate.", "Oiled."]

    # Words that came with a call are another answer without it.
    call = {"id": "c1", "type": "function", "function": {"name": "oil", "arguments": "{}"}}
    calling = ChatMessage(role="assistant", content="Oiled.", tool_calls=(call,))
    record = speculative("d")
    await remember(pool, [record.model_copy(update={"messages": (record.messages[0], calling)})])
    assert (await told("karma", "correct", "d", "answer", "--by", "ida"))[0] == 0

    monkeypatch.setattr("sys.stdin", io.StringIO("Oiled."))
    assert last((await told("karma", "correct", "a", "-", "--by", "ida"))[1]) == last(shown)


@pytest.mark.usefixtures("harvester")
async def test_what_cannot_be_done_is_said_with_what_to_do(told: Tell) -> None:
    Path("empty").write_text(" \n")
    for command, expected in (
        (("consecrate", "nobody", "--by", "ida"), "nobody is not remembered"),
        (("consecrate", "a", "--by", ""), "needs consecrated_by"),
        (("correct", "a", "empty", "--by", "ida"), "empty is empty"),
        (("correct", "a", "nowhere", "--by", "ida"), "nowhere cannot be read"),
    ):
        code, shown, error = await told("karma", *command)
        assert (code, shown) == (1, "") and expected in error, command
    await told("karma", "revoke", "c")
    code, _, error = await told("karma", "consecrate", "c", "--by", "ida")
    assert code == 1 and "c is revoked" in error
    Path("answer").write_text("Oiled.")
    code, _, error = await told("karma", "correct", "c", "answer", "--by", "ida")
    assert code == 1 and "c is revoked" in error
