"""Files for fine-tuning, made after the forms in OpenAI's documentation, with what is documented of each.

Sources: the guides "Supervised fine-tuning" and "Direct preference optimization", and the schemas FineTuneChatRequestInput and
FineTunePreferenceRequestInput of OpenAI's OpenAPI document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LEAST = 10  # "The minimum number of examples you can provide for fine-tuning is 10"
Message = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """A file, and what is documented of it. `refused`: a part of the reason that a client is shown; None where it is accepted."""

    documented: str
    content: bytes
    refused: str | None = None


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def answer(text: str, **values: Any) -> Message:
    return {"role": "assistant", "content": text, **values}


def called(*arguments: str, **values: Any) -> Message:
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": "get_current_weather", "arguments": text}}
        for number, text in enumerate(arguments)
    ]
    return {"role": "assistant", "tool_calls": calls, **values}


def result(number: int, text: str) -> Message:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": text}


FUNCTION = {
    "name": "get_current_weather",
    "description": "Get the current weather",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}, "format": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
        "required": ["location", "format"],
    },
}
TOOLS = [{"type": "function", "function": FUNCTION}]
SYSTEM = {"role": "system", "content": "Marv is a factual chatbot that is also sarcastic."}
PARIS, OSLO = '{"location": "Paris", "format": "celsius"}', '{"location": "Oslo", "format": "celsius"}'


def lines(example: Mapping[str, Any], count: int = LEAST, **last: Any) -> bytes:
    """The example so many times, each with a question of its own; `last` replaces fields of the last one."""
    made = [json.loads(json.dumps(example).replace("capital of", f"capital {number} of")) for number in range(count)]
    made[-1] |= last
    return b"".join(json.dumps(one).encode() + b"\n" for one in made)


def chat(*messages: Message, **values: Any) -> dict[str, Any]:
    return {"messages": [*messages], **values}


QUESTION = user("What's the capital of France?")
PLAIN = chat(SYSTEM, QUESTION, answer("Paris, as if everyone doesn't know that already."))
PAIR: dict[str, Any] = {
    "input": {"messages": [QUESTION], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [answer("It is Paris, as it has been for a while.")],
    "non_preferred_output": [answer("Paris.")],
}
LEGACY_CALL = {"role": "assistant", "function_call": {"name": "get_current_weather", "arguments": PARIS}}

SAMPLES = {
    "chat": Sample("a line is an object with messages", lines(PLAIN)),
    "no system prompt": Sample(
        "any of the roles may be left out but an answer", lines(chat(QUESTION, answer("Paris.")))
    ),
    "developer": Sample(
        "developer is the newer name of system", lines(chat({**SYSTEM, "role": "developer"}, *PLAIN["messages"][1:]))
    ),
    "weights": Sample(
        "weight is 0 or 1, on what the assistant says",
        lines(
            chat(
                SYSTEM,
                QUESTION,
                answer("Paris", weight=0),
                user("Be more sarcastic."),
                answer("Paris, as if.", weight=1),
            )
        ),
    ),
    "content in parts": Sample(
        "a content may be parts of text",
        lines(chat({"role": "user", "content": [{"type": "text", "text": QUESTION["content"]}]}, answer("Paris."))),
    ),
    "tools": Sample(
        "tools are listed beside the messages, parallel_tool_calls may be false",
        lines(
            chat(
                QUESTION, called(PARIS), result(0, "21"), answer("21 degrees."), tools=TOOLS, parallel_tool_calls=False
            )
        ),
    ),
    "parallel tools": Sample(
        "an answer may call several tools",
        lines(chat(QUESTION, called(PARIS, OSLO), result(0, "21"), result(1, "9"), answer("21 and 9."), tools=TOOLS)),
    ),
    "functions": Sample(
        "functions and function_call are deprecated, and taken",
        lines(
            chat(
                QUESTION,
                LEGACY_CALL,
                {"role": "function", "name": "get_current_weather", "content": "21"},
                answer("21."),
                functions=[FUNCTION],
            )
        ),
    ),
    "weights and tools": Sample(
        "an answer that calls a tool may have the weight 0",
        lines(chat(QUESTION, called(PARIS, weight=0), result(0, "21"), answer("21.", weight=1), tools=TOOLS)),
    ),
    "ends in a call": Sample(
        "the reference's example ends in a call of a tool", lines(chat(QUESTION, called(PARIS), tools=TOOLS))
    ),
    "ends in an excluded call": Sample(
        "an answer of weight 0 is not trained",
        lines(chat(QUESTION, called(PARIS, weight=0), tools=TOOLS)),
        "line 1: no assistant answer: every answer has the weight 0",
    ),
    "preference of calls": Sample(
        "an output of a preference may call tools",
        lines(PAIR | {"preferred_output": [called(PARIS)], "non_preferred_output": [called(OSLO)]}),
    ),
    "preference": Sample("input, preferred_output and non_preferred_output", lines(PAIR)),
    "preference with tools": Sample(
        "the input of a preference may list tools", lines(PAIR | {"input": PAIR["input"] | {"tools": TOOLS}})
    ),
    "a weight of one half": Sample(
        "weight is 0 or 1",
        lines(chat(QUESTION, answer("Paris.", weight=0.5))),
        "line 1: messages.1.weight: a weight is 0 or 1",
    ),
    "truncated": Sample("each line is a valid JSON object", lines(PLAIN)[:-20], "line 10: not JSON: truncated"),
    "CSV": Sample("JSONL, not another format", b"prompt,completion\n" * LEAST, "line 1: not JSON; line 2: not JSON"),
    "one array": Sample(
        "JSONL, one object in a line",
        b"[" + lines(PLAIN).replace(b"\n", b",")[:-1] + b"]",
        "line 1: an array, not a JSON object",
    ),
    "not UTF-8": Sample("UTF-8", lines(PLAIN).replace(b"capital 9", b"capital \xff"), "line 10: not UTF-8"),
    "another role": Sample(
        "the roles are those of chat completions",
        lines(PLAIN, messages=[{"role": "narrator", "content": "x"}]),
        "line 10: messages.0.role: not one of",
    ),
    "no answer": Sample(
        "each example has what the assistant is to say",
        lines(PLAIN, messages=[QUESTION]),
        "line 10: no assistant answer",
    ),
    "no messages": Sample(
        "prompt and completion are for other models than chat models",
        lines({"prompt": "2+2?", "completion": "4"}),
        "line 1: no messages",
    ),
    "half a preference": Sample(
        "a preference has both outputs",
        lines(PAIR, non_preferred_output=None),
        "line 10: preferred_output: without the answer that was rejected",
    ),
    "empty": Sample("at least ten examples", b"", "the file is empty"),
}
#: What is documented as accepted and refused here, by name.
DIFFERENT = {
    "images": Sample(
        "some models take images",
        lines(
            chat(
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
                answer("A cat."),
            )
        ),
        "line 1: messages.0.content.0: a part of type image_url is not supported, only text",
    ),
}
