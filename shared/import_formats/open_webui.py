"""Open WebUI's exports: feedback (a thumb with the chat that it was given in) and chats.

Source: https://github.com/open-webui/open-webui, backend/open_webui/models/feedbacks.py. A chat is a tree: every answer that
was made again is a branch. What was judged is the path to the message that the feedback names; of a chat, to the current one.
"""

from __future__ import annotations

import re
from typing import Any

from shared.import_formats.history import History
from shared.import_formats.record import RecordError, text

FIELDS = frozenset(
    {"type", "data", "meta", "snapshot", "chat", "title", "user_id", "version", "created_at", "updated_at"}
)
NOT_HELD = ("sources", "citations", "code_executions", "merged")
THUMBS = {1: "up", -1: "down", "1": "up", "-1": "down"}
#: What Open WebUI writes into the text of an answer: what was thought is left out, calls are not to be had from it.
DETAILS = re.compile(r'<details\b[^>]*\btype="(\w+)".*?</details>\s*', re.DOTALL)


def matches(values: dict[str, Any]) -> bool:
    return _feedback(values) or _tree(values.get("chat")) is not None


def conversation(values: dict[str, Any]) -> History:
    """Raises RecordError."""
    chat: Any = values
    end, thumb = None, None
    if _feedback(values):
        chat = values["snapshot"].get("chat")
        thumb = THUMBS.get(values["data"].get("rating"))
        end = (values.get("meta") or {}).get("message_id")
        if thumb is None or end is None:
            raise RecordError("data.rating: neither 1 nor -1, or meta names no message_id")
    inner = chat.get("chat") if isinstance(chat, dict) else None
    if not isinstance(inner, dict) or (tree := _tree(inner)) is None:
        raise RecordError("the chat has no history")
    made = History(session=f"open-webui/{chat['id']}" if chat.get("id") else None, feedback=thumb)
    if isinstance(prompt := inner.get("system") or (inner.get("params") or {}).get("system"), str):
        made.add("system", prompt)
    path = _path(tree, end or inner["history"].get("currentId"))
    for message in path:
        _add(made, message)
        if message is not path[-1] and _thumb(message) == "down":
            made.exclude_last()
    made.feedback = made.feedback or _thumb(path[-1])
    return made


def _thumb(message: dict[str, Any]) -> str | None:
    judged = message.get("annotation")
    return THUMBS.get(judged.get("rating")) if isinstance(judged, dict) else None


def _feedback(values: dict[str, Any]) -> bool:
    return (
        isinstance(values.get("snapshot"), dict) and isinstance(values.get("data"), dict) and "rating" in values["data"]
    )


def _tree(chat: object) -> dict[str, Any] | None:
    history = chat.get("history") if isinstance(chat, dict) else None
    messages = history.get("messages") if isinstance(history, dict) else None
    return messages if isinstance(messages, dict) else None


def _path(tree: dict[str, Any], end: object) -> list[dict[str, Any]]:
    path: list[dict[str, Any]] = []
    message = tree.get(str(end))
    while isinstance(message, dict) and message not in path:
        path.insert(0, message)
        message = tree.get(str(message.get("parentId")))
    if not path:
        raise RecordError("the chat has no message with the id that was judged")
    return path


def _add(made: History, message: dict[str, Any]) -> None:
    if message.get("files"):
        raise RecordError("files: attachments are not supported, only text")
    for name in NOT_HELD:
        if message.get(name):
            raise RecordError(f"{name}: the answer rests on what the chat does not hold")
    if any(isinstance(one, dict) and one.get("action") for one in message.get("statusHistory") or ()):
        raise RecordError("statusHistory: the answer rests on a search whose results the chat does not hold")
    role = message.get("role")
    words = text(message.get("content"), "content")
    if role == "assistant":
        if any(found[1] != "reasoning" for found in DETAILS.finditer(words)):
            raise RecordError("content: calls that are written into the text are not supported")
        made.add("assistant", DETAILS.sub("", words))
        if message.get("error") or message.get("done") is False or message.get("stopped"):
            made.exclude_last()
    elif role in ("user", "system"):
        made.add(str(role), words)
    else:
        raise RecordError("role: not one of user, assistant, system")
