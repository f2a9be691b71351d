"""What of a record is embedded: the words of its user and assistant turns, bounded."""

from __future__ import annotations

from typing import Any

# The model reads 256 word pieces, some 1000 characters. Of a longer talk its beginning and its end are kept:
# the question and the answer tell records apart, the middle rarely does.
HEAD = 600
TAIL = 600
_TURNS = ("user", "assistant")


def embedding_text(messages: Any) -> str:
    """The words of the user's and the assistant's turns, one turn a line; '' for what is no conversation.

    Rows come from any component, so any JSON value is taken and never raises.
    """
    if not isinstance(messages, list):
        return ""
    text = "\n".join(words for message in messages if (words := _words(message)))
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]}\n{text[-TAIL:]}"
    # A lone surrogate is no character; the tokenizer refuses it.
    return text.encode("utf-8", "replace").decode("utf-8")


def _words(message: Any) -> str:
    if not isinstance(message, dict) or message.get("role") not in _TURNS:
        return ""
    content = message.get("content")
    return " ".join(content.split()) if isinstance(content, str) else ""
