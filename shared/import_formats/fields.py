"""What the names of fields mean that no format reads: some change what a record is, and are refused where they have a value."""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared.import_formats.record import RecordError

#: Words of a name by which a field judges, weighs or ends what it belongs to.
# fmt: off
JUDGING = frozenset({
    "train", "training", "trained", "trainable", "loss", "weight", "weights", "mask", "masked", "thumb", "thumbs",
    "vote", "votes", "like", "liked", "likes", "dislike", "disliked", "rate", "rated", "rating", "ratings", "score",
    "scores", "feedback", "correct", "correctness", "accepted", "rejected", "deleted", "discarded", "error",
    "errors", "finish", "stop", "reward", "rewards", "label", "labels", "prefer", "preferred", "preference",
    "chosen", "annotation", "solution", "done", "status", "incomplete", "corrected", "correction", "reflection",
    "revision", "revised", "quality", "grade", "graded", "verdict", "judgement", "judgment", "critique", "satisfaction",
    "helpfulness", "truth", "gold", "expected",
})
#: Fields of notes, in which a judgement may be, too; other words of `JUDGING` mean something else there.
NOTES = frozenset({
    "metadata", "meta", "extra", "extra_info", "info", "annotations", "evals", "evaluation", "evaluations", "attributes",
})
NOTED = JUDGING - {
    "finish", "stop", "done", "status", "solution", "revision", "revised", "labels", "likes", "expected", "gold",
}
#: A field that is named by such a word alone, or by what it is of.
SELECTING = frozenset({
    "good", "valid", "approved", "upvoted", "safe", "helpful", "harmless", "ok", "pass", "keep", "include", "included",
    "selected",
})
DROPPING = frozenset({
    "bad", "invalid", "hidden", "skip", "skipped", "ignore", "ignored", "exclude", "excluded", "flagged", "toxic", "spam",
    "wrong", "removed", "truncated", "harmful", "unsafe", "negative", "hallucination", "hallucinated", "downvoted",
    "stopped", "interrupted", "cancelled", "canceled", "partial", "worse", "worst",
})
OF = frozenset({
    "is", "was", "to", "be", "from", "answer", "response", "output", "completion", "message", "record", "example", "user", "human", "up",
    "down", "final", "overall",
})
#: Values by which a field says that this is no answer: a thought or a call in harmony's form, an observation that failed.
NO_ANSWER = {
    "channel": ("analysis", "commentary"), "recipient": ("python", "browser", "functions"), "level": ("ERROR",),
}
# fmt: on
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
IS = re.compile(r"^is(?=\w{2})")  # of `iscorrect`
DEPTH = 3  # of notes in notes
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
SUBSTANCE |= {
    "contexts",
    "retrieved_contexts",
    "retrieved_documents",
    "retrieved_docs",
    "search_results",
    "cached_content",
    "cachedContent",
    "evidence",
    "facts",
    "table",
    "tables",
    "reference_answer",
    "reference_output",
    "reference_outputs",
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
    "complete",
    "eos",
    "eos_token",
    "function_call",
    "finished_successfully",
    "success",
    "good",
    "excellent",
    "high",
    "correct",
    "pass",
    "passed",
    "positive",
)
NO = (False, 0, "false", "no", "0")
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


def expect_harmless_notes(fields: Mapping[str, object], path: str = "") -> None:
    """Raise RecordError for a judgement among the notes of a record or a turn, where nothing reads it."""
    for name, value in fields.items():
        if name in NOTES:
            _expect_no_judgement(value, f"{path}.{name}" if path else name)


def _expect_no_judgement(notes: object, path: str, depth: int = DEPTH) -> None:
    for one in (notes if isinstance(notes, list) else [notes]) if depth else ():
        if not isinstance(one, dict):
            continue
        for name, value in one.items():
            whole = _words(name) <= NOTED | DENYING | AFFIRMING | SELECTING | DROPPING | OF  # not `lang_score`
            if whole and value not in EMPTY and _judges(name, value, NOTED):
                raise RecordError(
                    f"{path}.{name}: changes what a record means, and is not read there; move it beside the messages, or remove it"
                )
            _expect_no_judgement(value, path, depth - 1)


def _changes(name: str, value: object) -> bool:
    return name in ATTACHED or name in SUBSTANCE or _judges(name, value, JUDGING)


def _words(name: str) -> set[str]:
    return {IS.sub("", word.lower()) for word in WORD.findall(name)}


def _judges(name: str, value: object, judging: frozenset[str]) -> bool:
    words = _words(name)
    good = isinstance(value, str) and value.lower() in GOOD_ENDS
    if name in NO_ANSWER:
        return isinstance(value, str) and value.startswith(NO_ANSWER[name])
    if words & AFFIRMING:
        return value not in (True, 1) and not good
    if words & SELECTING and words <= SELECTING | OF:
        return value in NO or (isinstance(value, str) and value.lower() in NO)
    if words & DROPPING and words <= DROPPING | OF:
        return value not in NO
    if not words & (judging | DENYING) or good:
        return False
    if name == "done":
        return value is not True
    return not (words & DENYING and value in (False, 0))
