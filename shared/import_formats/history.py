"""Histories of agents: dead ends keep their place and are not trained, and a long history is cut at the user's turns.

A dead end is what did not lead on: a failed call, words that were interrupted, an answer that was sent back.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.contracts.karma import LARGEST_RECORD
from shared.import_formats.record import Conversation, RecordError
from shared.import_formats.turns import Message

Event = tuple[int, dict[str, Any]]  # one line of a session file, with its number

LONGEST = 32 * 1024  # bytes: the default of harvest.lengths.row, which counts a quarter of them as tokens
RESTARTS = "restarts"  # marks the summary by which a compacted history begins again
KEPT = ("role", "content", "tool_calls", "tool_call_id", "weight")


@dataclass
class History:
    """What an agent and its user wrote, in order; calls and results are joined by their ids, wherever they are."""

    messages: list[Message] = field(default_factory=list)
    session: str | None = None  #: the same for all that belongs together, in whichever file it is
    began: str | None = None
    failed: set[str] = field(default_factory=set)  #: ids of the calls that failed
    denied: set[str] = field(default_factory=set)  #: those of them that the user did not allow
    tools: list[dict[str, Any]] = field(default_factory=list)
    feedback: str | None = None
    called: set[str] = field(default_factory=set)  #: ids of all calls
    unused: set[str] = field(default_factory=set)  #: ids of calls that were dropped, whose results are, too

    def add(self, role: str, words: str = "", calls: Sequence[dict[str, Any]] = ()) -> None:
        """Add what one side wrote. What it writes without an answer in between is one message.

        What the system says later on is the user's: most templates take a system prompt at the beginning only.
        """
        if not words.strip() and not calls:
            return
        if role == "system" and any(message["role"] != "system" for message in self.messages):
            role = "user"
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != role or "weight" in last:
            self.messages.append(last := {"role": role, "content": ""})
        last["content"] = "\n\n".join(filter(None, (last["content"], words)))
        if calls:
            last["tool_calls"] = [*last.get("tool_calls", ()), *calls]
            self.called |= {call["id"] for call in calls}

    def add_result(self, call: str, words: str, failed: bool = False, denied: bool = False) -> None:
        """Add what a call returned."""
        if call in self.unused:
            return
        self.messages.append({"role": "tool", "tool_call_id": call, "content": words})
        if failed or denied:
            self.failed.add(call)
        if denied:
            self.denied.add(call)

    def restart(self, summary: str) -> None:
        """What comes next was made without what came before, of which the model saw this summary only."""
        self.messages.append({"role": "user", "content": summary, RESTARTS: True})

    def exclude_last(self) -> None:
        """What the assistant wrote last is a dead end."""
        if self.messages and self.messages[-1]["role"] == "assistant":
            self.messages[-1]["weight"] = 0


def cut(history: History) -> list[Conversation]:
    """The conversations of a history, each of which ends in an answer. Raises RecordError where the history does not.

    One that is longer than a row of the manifest may be is cut where a user's turn follows an answer.
    """
    expect_answer(history.messages)
    messages = list(_joined(history))
    _exclude_baseless(messages, history.denied)
    parts = [messages] if _size(messages) <= LONGEST else list(_packed(messages))
    if any(_size(part) > LARGEST_RECORD for part in parts):
        raise RecordError(f"a turn of the user is answered by more than {LARGEST_RECORD // 1024**2} MiB")
    return [
        Conversation(
            [{name: message[name] for name in KEPT if message.get(name) not in (None, [])} for message in part],
            history.tools,
            session=history.session,
            began=history.began,
            feedback=history.feedback,
        )
        for part in parts
    ]


def expect_answer(messages: list[Message]) -> None:
    """Raise RecordError unless the last word is an answer: an earlier one is not what the history led to."""
    last = next((message for message in reversed(messages) if message["role"] != "user"), None)
    if last is None or last["role"] == "system":
        raise RecordError("no assistant answer: no message of the assistant")
    if last.get("tool_calls"):
        raise RecordError("no assistant answer: the history ends in a tool call")
    if last.get("weight") == 0:
        raise RecordError("no assistant answer: the last one was interrupted, refused or sent back")


def _joined(history: History) -> Iterator[Message]:
    """Every call with its result right behind it; the failed ones of a turn in a message of their own, not to be trained.

    A call without a result is left out, and what was written with it is a dead end. Raises RecordError for the reverse.
    """
    results: dict[str, deque[Message]] = defaultdict(deque)
    for message in history.messages:
        if message["role"] == "tool":
            results[message["tool_call_id"]].append(message)
    for message in history.messages:
        if message["role"] == "tool":
            continue
        if not (made := message.get("tool_calls")):
            yield message
            continue
        answered = [call for call in made if results[call["id"]]]
        bad = [call for call in answered if call["id"] in history.failed]
        good = [call for call in answered if call not in bad]
        words = {"content": ""} if good else {}
        if bad or (message["content"] and not good):
            yield message | words | {"weight": 0, "tool_calls": bad}
            yield from (results[call["id"]].popleft() for call in bad)
        if good:
            yield message | {"tool_calls": good}
            yield from (results[call["id"]].popleft() for call in good)
    if any(results.values()):
        raise RecordError("a tool result without its call")


def _exclude_baseless(messages: list[Message], denied: set[str]) -> None:
    """An answer of whose turn every call failed rests on nothing. Raises RecordError where it is the last."""
    tried = base = False
    for message in messages:
        if message["role"] == "user":
            tried = base = False
        elif message.get("tool_calls"):
            tried = tried or any(call["id"] not in denied for call in message["tool_calls"])
            base = base or message.get("weight") != 0
        elif message["role"] == "assistant" and tried and not base:
            message["weight"] = 0
    if tried and not base:
        raise RecordError("every tool call that the last answer could rest on failed")


def _packed(messages: list[Message]) -> Iterator[list[Message]]:
    """Turns of the user, as many at a time as fit, behind what was asked and answered before them."""
    prompt = [message for message in messages[:1] if message["role"] == "system"]
    context: list[Message] = []
    part: list[Message] = []
    size = _size(prompt)
    for turn in _turns(messages[len(prompt) :]):
        added = _size(turn)
        if part and (RESTARTS in turn[0] or size + added > LONGEST):
            yield [*prompt, *context, *part]
            context = [] if RESTARTS in turn[0] else _words([*context, *part])
            part, size = [], _size([*prompt, *context])
        part, size = [*part, *turn], size + added
    yield [*prompt, *context, *part]


def _turns(messages: list[Message]) -> Iterator[list[Message]]:
    """What begins with a user's words and ends in an answer; or with a summary, before which work without answer is left out."""
    turn: list[Message] = []
    for message in messages:
        if RESTARTS in message:
            while turn and not _answers(turn[-1]):
                turn.pop()
        if message["role"] == "user" and turn and _answers(turn[-1]):
            yield turn
            turn = []
        turn.append(message)
    yield turn


def _answers(message: Message) -> bool:
    return message["role"] == "assistant" and not message.get("tool_calls") and message.get("weight") != 0


def _words(messages: list[Message]) -> list[Message]:
    """The last of what was asked and answered, without the calls: context of what comes next, which is trained elsewhere."""
    kept: deque[Message] = deque()
    size = 0
    for message in reversed(messages):
        if message["role"] != "user" and not _answers(message | {"weight": None}):
            continue
        if (size := size + _size([message])) > LONGEST // 4:
            break
        kept.appendleft(message if message["role"] == "user" else message | {"weight": 0})
    while kept and kept[0]["role"] != "user":
        kept.popleft()
    return list(kept)


def _size(messages: Iterable[Message]) -> int:
    """The bytes of these messages in a row, as PostgreSQL writes them."""
    return sum(len(json.dumps(message, ensure_ascii=False).encode()) + len(", ") for message in messages)
