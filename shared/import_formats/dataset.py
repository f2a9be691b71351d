"""Examples of the datasets and traces of LangSmith, Langfuse and Phoenix: what went in, and what came out.

Sources: https://docs.smith.langchain.com/evaluation (`inputs`, `outputs`), https://api.reference.langfuse.com (`input`,
`expectedOutput`, and `output` of a trace), https://arize.com/docs/phoenix (`input`, `output`; for evals `messages`, `ideal`).
"""

from __future__ import annotations

from typing import Any

from shared.import_formats import openai, responses
from shared.import_formats.fields import EMPTY, expect_harmless
from shared.import_formats.langchain import as_openai
from shared.import_formats.record import Conversation, RecordError, items, json_type
from shared.import_formats.turns import Message

PAIRS = (
    ("inputs", "outputs"),
    ("input", "expectedOutput"),
    ("input", "expected_output"),
    ("input", "output"),
    ("input", "ideal"),
    ("messages", "ideal"),
)
OTHERS = frozenset({"instruction", "conversations", "conversation", "prompt", "chosen", "rejected"})
FIELDS = frozenset({"metadata", "status", "sessionId", "createdAt", "observations"})
WRAPPED = ("messages", "message", "input", "output", "generations", "choices")
WORDS_ONLY = ("GENERATION", "EVENT")  # kinds of observations beside which an answer rests on nothing else


def matches(values: dict[str, Any]) -> bool:
    return _pair(values) is not None and OTHERS.isdisjoint(values) and not responses.matches(values)


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    if (pair := _pair(values)) is None:
        raise RecordError("no inputs with their outputs")
    if values.get("status") not in (None, "ACTIVE"):
        raise RecordError("status: the example is not active")
    for seen in values.get("observations") or ():
        if isinstance(seen, dict) and seen.get("type") not in WORDS_ONLY:
            raise RecordError(
                "observations: the trace ran tools or other steps, which its input and output do not hold"
            )
    asked, tools = _asked(values[pair[0]], pair[0])
    answered = _messages(values[pair[1]], pair[1], "assistant")
    whole = answered if asked and answered[: len(asked)] == asked else [*asked, *answered]
    if answered[-1]["role"] != "assistant":
        raise RecordError(f"no assistant answer: {pair[1]} ends in no message of the assistant")
    return Conversation(whole, tools, read=FIELDS | set(pair), session=_session(values), began=values.get("createdAt"))


def _pair(values: dict[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if values.get(pair[0]) is not None and values.get(pair[1]) not in EMPTY), None)


def _session(values: dict[str, Any]) -> str | None:
    """The session or thread of the trace that an example was made of."""
    metadata = values.get("metadata")
    known = metadata if isinstance(metadata, dict) else {}
    named = (values.get("sessionId"), known.get("session_id"), known.get("thread_id"), known.get("conversation_id"))
    return next((f"trace/{name}" for name in named if isinstance(name, str) and name), None)


def _asked(value: object, path: str) -> tuple[list[Message], list[dict[str, Any]]]:
    if not isinstance(value, dict):
        return _messages(value, path, "user"), []
    rest = {name: one for name, one in value.items() if name not in ("tools", "functions")}
    return _messages(rest, path, "user"), openai.tools(value)


def _messages(value: object, path: str, role: str) -> list[Message]:
    """Read text as the one message of a role, messages, or the one field that holds either. Raises RecordError."""
    if isinstance(value, str):
        if not value.strip():
            raise RecordError(f"{path}: empty")
        return [{"role": role, "content": value}]
    if isinstance(value, list):
        if value and isinstance(value[0], list):
            if len(value) > 1:
                raise RecordError(f"{path}: several conversations")
            return _messages(value[0], f"{path}.0", role)
        return openai.messages([as_openai(item) for item in items(value, path)], path)
    if not isinstance(value, dict):
        raise RecordError(f"{path}: {json_type(value)}, no message")
    if "role" in value or ("type" in value and ("data" in value or "content" in value)) or "lc" in value:
        return openai.messages([as_openai(value)], path)
    return _wrapped(value, path, role)


def _wrapped(value: dict[str, Any], path: str, role: str) -> list[Message]:
    """What the one field holds that is the conversation; others beside it must change nothing."""
    given = {name: one for name, one in value.items() if one not in EMPTY}
    name = next((name for name in WRAPPED if name in given), None)
    if name is None and len(given) != 1:
        raise RecordError(f"{path}: {len(given)} fields, of which none is the conversation; give it as messages")
    name = name or next(iter(given))
    expect_harmless({other: one for other, one in given.items() if other != name}, path)
    held = given[name]
    if name in ("generations", "choices"):
        return _generated(held, f"{path}.{name}")
    return _messages(held, f"{path}.{name}", role)


def _generated(value: object, path: str) -> list[Message]:
    """The one message that a model generated."""
    while isinstance(value, list):
        if len(value) != 1:
            raise RecordError(f"{path}: several answers")
        value = value[0]
    if not isinstance(value, dict):
        raise RecordError(f"{path}: {json_type(value)}, no message")
    expect_harmless({name: value[name] for name in ("finish_reason",) if name in value}, path)
    return _messages(value.get("message") or value.get("text"), path, "assistant")
