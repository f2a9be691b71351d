"""One turn of a conversation, in every spelling in use: its role, text, calls, weight and thumb.

What excludes a turn from training has many names (OpenAI `weight`, LLaMA-Factory `loss_weight`, axolotl `train` and
`training`, ms-swift `loss`); they mean the same here.
"""

from __future__ import annotations

import json
import re
from typing import Any

from shared.import_formats.fields import expect_harmless, expect_harmless_notes
from shared.import_formats.record import RecordError, items, json_type, text

Message = dict[str, Any]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "function_call": "call",
    "tool_call": "call",
}
WEIGHTS = ("weight", "loss_weight", "train", "training", "loss", "loss_scale", "train_on_turn")
THUMBS = ("feedback", "thumb", "thumbs", "vote", "rating", "label", "kto_tag")
REASONING = ("reasoning_content", "reasoning", "thinking")  # what was thought is not trained
ROLE_NAMES = ("role", "from")
TEXT_NAMES = ("content", "value")
FIELDS = frozenset(
    (
        *ROLE_NAMES,
        *TEXT_NAMES,
        *WEIGHTS,
        *THUMBS,
        *REASONING,
        "name",
        "refusal",
        "tool_calls",
        "tool_call_id",
    )
) | {"function_call"}
PARTS = frozenset({"image_url", "input_audio", "file", "image", "audio", "video", "document", "refusal", "input_image"})
PARTS |= {"input_file", "tool_use", "tool_result"}
TEXTS = frozenset({"text", "input_text", "output_text"})
THOUGHTS = frozenset({"thinking", "redacted_thinking", "reasoning"})
#: Where an attachment was: in text that begins or ends with it, or around its address; or the attachment itself.
MARK = re.compile(
    r"<(?P<kind>img|image|audio|video)>[^<>\s]{1,2000}</(?P=kind)>|"
    r"<\|?(image|img|video|audio|speech)(here|[_ ]?(\d{1,3}|pad|placeholder|soft_token))?\|?>|<\|vision_start\|>|"
    r"<\|?(start|begin)_of_(image|audio)\|?>|<__media__>|(?P<data>data:(image|audio|video|application)/[\w.+-]{1,80};base64,)",
    re.IGNORECASE,
)
OFF, ON = (0, False), (1, True)
UP = ("up", "thumbs_up", "good", "positive", "like", "true", 1, True)
DOWN = ("down", "thumbs_down", "bad", "negative", "dislike", "false", -1, 0, False)


def role_of(item: dict[str, Any], path: str) -> str:
    """The role of a turn: one of the contract's, or `call`. Raises RecordError."""
    name = next((name for name in ROLE_NAMES if name in item), ROLE_NAMES[0])
    role = ROLES.get(str(item.get(name)))
    if role is None:
        raise RecordError(f"{path}.{name}: not one of {', '.join(ROLES)}")
    return role


def text_of(item: dict[str, Any], path: str) -> str | None:
    """The text of a turn; None where it has none. Raises RecordError."""
    name = next((name for name in TEXT_NAMES if item.get(name) is not None), TEXT_NAMES[0])
    return content(item.get(name), f"{path}.{name}", glue_of(role_of(item, path)))


def glue_of(role: str) -> str:
    """What joins the parts of a text: an answer is cut anywhere (at citations), others as vLLM joins them for a template."""
    return "" if role == "assistant" else "\n"


def content(value: object, path: str, glue: str = "\n") -> str | None:
    """Read text, or text in parts. Raises RecordError."""
    if value is None or isinstance(value, str):
        return value
    parts = [(part, f"{path}.{at}") for at, part in enumerate(items(value, path))]
    texts = [_part(part, where) for part, where in parts if str(part.get("type")) not in THOUGHTS]
    return glue.join(texts) if texts else None


def _part(part: dict[str, Any], path: str) -> str:
    kind = part.get("type", "text")
    if not isinstance(kind, str) or kind not in TEXTS:
        shown = kind if isinstance(kind, str) and kind in PARTS else "unknown"
        raise RecordError(f"{path}: a part of type {shown} is not supported, only text")
    if weight_of(part, path) == 0 or thumb_of(part, path) == "down":
        raise RecordError(f"{path}: a part that is not to be trained; give it a message of its own, with the weight 0")
    expect_harmless({name: value for name, value in part.items() if name not in (*WEIGHTS, *THUMBS)}, path)
    return text(part.get("text", part.get("value")), f"{path}.text")


def mark(message: Message, item: dict[str, Any], path: str) -> Message:
    """The message with what its turn says of itself: trained or not. Raises RecordError for what cannot be kept."""
    expect_harmless({name: value for name, value in item.items() if name not in FIELDS}, path)
    expect_harmless_notes(item, path)
    if message["role"] == "user":
        expect_only_text(message.get("content") or "", path)
    if item.get("refusal"):
        raise RecordError(f"{path}.refusal: a refusal is no answer to train on")
    weight = weight_of(item, path)
    if weight is None and message["role"] == "assistant" and thumb_of(item, path) == "down":
        weight = 0
    if weight == 1 and message["role"] != "assistant":
        raise RecordError(f"{path}: only what the assistant wrote is trained, and this turn has the weight 1")
    return message if weight is None or message["role"] != "assistant" else message | {"weight": weight}


def expect_only_text(words: str, path: str) -> None:
    """Raise RecordError where the user's words hold the mark of an attachment."""
    words = words.strip()
    if any(
        found["kind"] or found["data"] or found.start() == 0 or found.end() == len(words)
        for found in MARK.finditer(words)
    ):
        raise RecordError(f"{path}: the mark of an attachment, which is not supported, only text")


def weight_of(item: dict[str, Any], path: str) -> int | None:
    """0 where training leaves it out, 1 where it is to be trained, None where nothing is said. Raises RecordError."""
    found: set[int] = set()
    for name in WEIGHTS:
        if (value := item.get(name)) is None:
            continue
        if not isinstance(value, bool | int | float) or value not in (*OFF, *ON):
            raise RecordError(f"{path}{'.' if path else ''}{name}: a weight is 0 or 1, true or false")
        found.add(int(value))
    if len(found) > 1:
        raise RecordError(f"{path or 'the record'}: weights that contradict each other")
    return next(iter(found), None)


def thumb_of(item: dict[str, Any], path: str) -> str | None:
    """`up`, `down`, or None where no thumb was given. Raises RecordError for another value."""
    found: set[str] = set()
    for name in THUMBS:
        value = item.get(name)
        if value is None:
            continue
        if not isinstance(value, str | bool | int | float):
            raise RecordError(f"{path}{'.' if path else ''}{name}: {json_type(value)}, neither up nor down")
        given = value.strip().lower() if isinstance(value, str) else value
        # A rating of 1 may be the best of two or the worst of five.
        if given not in (*UP, *DOWN) or (name == "rating" and given in (0, 1)):
            raise RecordError(f"{path}{'.' if path else ''}{name}: neither up nor down")
        found.add("up" if given in UP else "down")
    if len(found) > 1:
        raise RecordError(f"{path or 'the record'}: thumbs that contradict each other")
    return next(iter(found), None)


def call(identity: object, function: dict[str, Any], path: str) -> dict[str, Any]:
    """A call in OpenAI's form; its arguments become text. Raises RecordError."""
    arguments = next((function[name] for name in ("arguments", "args", "input") if function.get(name) is not None), "")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    named = {"name": text(function.get("name"), f"{path}.name"), "arguments": arguments or "{}"}
    return {"id": identity, "type": "function", "function": named}


def append(message: Message, to: list[Message]) -> None:
    """Append a message; a call that is a turn by itself was made at once with that of the turn before it."""
    last = to[-1] if to else {}
    if _only_calls(message) and _only_calls(last) and last.get("weight") == message.get("weight"):
        last["tool_calls"] += message["tool_calls"]
    else:
        to.append(message)


def _only_calls(message: Message) -> bool:
    return bool(message.get("tool_calls")) and "content" not in message


def calls_of(text_: str, path: str, number: int) -> list[dict[str, Any]]:
    """Read one call or several, as JSON in the text of a turn; such formats have no ids, results follow in order."""
    value = parsed(text_, path)
    calls = items(value if isinstance(value, list) else [value], path)
    return [call(f"call_{number}_{at}", one, path) for at, one in enumerate(calls)]


def tools_of(value: object, name: str = "tools") -> list[dict[str, Any]]:
    """Read tools from a list, or from JSON in a text. Raises RecordError."""
    if not value:
        return []
    return [
        tool(one, f"{name}.{at}")
        for at, one in enumerate(items(parsed(value, name) if isinstance(value, str) else value, name))
    ]


def parsed(text_: str, path: str) -> object:
    try:
        value: object = json.loads(text_)
    except (ValueError, RecursionError):
        raise RecordError(f"{path}: not JSON") from None
    if not isinstance(value, dict | list):
        raise RecordError(f"{path}: {json_type(value)}, not an object")
    return value


def tool(function: dict[str, Any], path: str = "tools") -> dict[str, Any]:
    """A tool in OpenAI's chat form: bare functions are wrapped, other names of the parameters' schema translated."""
    if function.get("type", "function") not in ("function", "custom") or not isinstance(
        function.get("function", {}), dict
    ):
        raise RecordError(f"{path}: a tool that is no function is not supported")
    if "function" in function:
        return function
    text(function.get("name"), f"{path}.name")
    names = {"input_schema": "parameters", "parametersJsonSchema": "parameters"}
    return {
        "type": "function",
        "function": {names.get(name, name): value for name, value in function.items() if name != "type"},
    }


def system(value: object, messages: list[Message]) -> list[Message]:
    """The messages under the system prompt that a record gives beside them. Raises RecordError."""
    prompt = content(value, "system")
    if not prompt:
        return messages
    if messages and messages[0]["role"] == "system":
        raise RecordError("system: given twice, also as the first message")
    return [{"role": "system", "content": prompt}, *messages]
