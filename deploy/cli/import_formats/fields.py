"""What the names of fields mean that no format reads: some change what a record is, and are refused where they have a value."""

from __future__ import annotations

import re
from collections.abc import Mapping

from deploy.cli.import_formats.record import RecordError

#: Words of a name by which a field judges, weighs or ends what it belongs to.
# fmt: off
JUDGING = frozenset({
    "train", "training", "trained", "trainable", "loss", "weight", "weights", "mask", "masked", "thumb", "thumbs",
    "vote", "votes", "like", "liked", "likes", "dislike", "disliked", "rate", "rated", "rating", "ratings", "score",
    "scores", "feedback", "correct", "correctness", "accepted", "rejected", "deleted", "discarded", "error",
    "errors", "finish", "stop", "reward", "rewards", "label", "labels", "prefer", "preferred", "preference",
    "chosen", "annotation", "solution", "done", "status", "incomplete", "corrected", "correction", "reflection",
    "revision", "revised",
})
# fmt: on
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
#: Fields that hold a part of the conversation: without it the rest is another one.
SUBSTANCE = frozenset(
    {
        "system",
        "system_prompt",
        "system_message",
        "instructions",
        "instruction",
        "context",
        "history",
        "passages",
        "tools",
    }
) | {"functions", "prompt", "question", "query", "input", "response", "completion", "output", "answer", "answers"}
SUBSTANCE |= {
    "article",
    "document",
    "passage",
    "paragraph",
    "background",
    "story",
    "knowledge",
    "schema",
    "hint",
    "options",
}
SUBSTANCE |= {"choices", "candidates", "messages", "conversations", "conversation", "contents", "previous_response_id"}
ATTACHED = frozenset(
    {"images", "image", "videos", "video", "audios", "audio", "files", "file", "attachments", "attachment", "documents"}
) | {"objects", "image_path", "image_paths", "image_url", "image_urls", "media", "experimental_attachments", "photo"}
GOOD_ENDS = (
    "stop",
    "end_turn",
    "stop_sequence",
    "tool_calls",
    "tool_use",
    "completed",
    "finished_successfully",
    "success",
)
EMPTY: tuple[object, ...] = (None, "", [], {})
DENYING = frozenset({"error", "errors", "deleted", "discarded", "rejected", "incomplete", "masked", "failed"})
AFFIRMING = frozenset({"resolved", "solved", "passed", "success", "succeeded", "verified"})


def expect_harmless(fields: Mapping[str, object], path: str = "") -> None:
    """Raise RecordError for a field of these, which nothing reads, that changes what they belong to."""
    for name, value in fields.items():
        if value in EMPTY or not _changes(name, value):
            continue
        where = f"{path}.{name}" if path else name
        if name in ATTACHED:
            raise RecordError(f"{where}: attachments are not supported, only text")
        what = "is part of the conversation" if name in SUBSTANCE else "changes what a record means"
        raise RecordError(
            f"{where}: {what}, and is not read in this format; rename it to one that is read, or remove it"
        )


def _changes(name: str, value: object) -> bool:
    if name in ATTACHED or name in SUBSTANCE:
        return True
    words = {word.lower() for word in WORD.findall(name)}
    if words & AFFIRMING:
        return value not in (True, 1)
    if not words & (JUDGING | DENYING):
        return False
    if isinstance(value, str) and value.lower() in GOOD_ENDS:
        return False
    if name == "done":
        return value is not True
    return not (words & DENYING and value in (False, 0))
