"""A tokenizer whose tokens are letters, with chat templates that know tools, drop them, or rewrite earlier turns."""

from __future__ import annotations

import json
from typing import Any

END = ord("$")


class Letters:
    """`role>content$` and a line end for every message, as ChatML does; drops tools without a word, as SmolLM2's does."""

    def __init__(self, closing: str = "$\n", drops_history: bool = False) -> None:
        self.closing, self.drops_history = closing, drops_history

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> Any:
        opens = options.get("add_generation_prompt", False)
        text = self.text(conversation, options.get("tools"), opens) + ("assistant>" if opens else "")
        return {"input_ids": [ord(letter) for letter in text]} if options.get("tokenize", True) else text

    def text(self, conversation: list[dict[str, Any]], tools: list[dict[str, Any]] | None, opens: bool) -> str:
        shown = conversation[-1:] if self.drops_history and not opens else conversation
        return "".join(f"{message['role']}>{self.said(message)}{self.closing}" for message in shown)

    def said(self, message: dict[str, Any]) -> str:
        return str("" + message["content"])

    def decode(self, token_ids: list[int]) -> str:
        return "".join(map(chr, token_ids))


class Tooled(Letters):
    """Opens with the tools' names and shows calls; arguments must be objects, as most templates want them."""

    def text(self, conversation: list[dict[str, Any]], tools: list[dict[str, Any]] | None, opens: bool) -> str:
        named = ",".join(tool["function"]["name"] for tool in tools or [])
        return (f"tools>{named}$\n" if named else "") + super().text(conversation, tools, opens)

    def said(self, message: dict[str, Any]) -> str:
        calls = [call["function"] for call in message.get("tool_calls", [])]
        shown = [f"{call['name']}({','.join(call['arguments'].keys())})" for call in calls]
        return super().said(message) + "".join(shown)


class Parted(Letters):
    """Reads content as a list of parts, each with a dot after it."""

    def said(self, message: dict[str, Any]) -> str:
        content = message["content"]
        return content if isinstance(content, str) else "".join(part["text"] + "." for part in content)


class Opening(Letters):
    """Ends no turn: the next one's opening stops the model, as GLM's does."""

    def __init__(self) -> None:
        super().__init__(closing="")

    def text(self, conversation: list[dict[str, Any]], tools: list[dict[str, Any]] | None, opens: bool) -> str:
        return "".join(f"${super(Opening, self).text([message], None, opens)}" for message in conversation)

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> Any:
        opens = options.get("add_generation_prompt", False)
        text = self.text(conversation, None, opens) + ("$assistant>" if opens else "")
        return {"input_ids": [ord(letter) for letter in text]} if options.get("tokenize", True) else text


class Observing(Opening, Tooled):
    """Opens the result of a tool with a sign of its own, as GLM's does."""

    def text(self, conversation: list[dict[str, Any]], tools: list[dict[str, Any]] | None, opens: bool) -> str:
        return super().text(conversation, tools, opens).replace("$tool>", "%tool>")


class Cutting(Letters):
    """Shows the first word of an answer."""

    def said(self, message: dict[str, Any]) -> str:
        return str(message["content"]).split(" ")[0]


class Thinking(Tooled):
    """Opens the last turn with a thought that it leaves out of earlier ones, as reasoning bases do."""

    def text(self, conversation: list[dict[str, Any]], tools: list[dict[str, Any]] | None, opens: bool) -> str:
        *earlier, last = conversation
        thought = "~" if last["role"] == "assistant" else ""
        return super().text([*earlier, last | {"content": thought + last["content"]}], tools, opens)


class Strict(Letters):
    """Raises for a role that it does not know, as templates with strict turns do."""

    def said(self, message: dict[str, Any]) -> str:
        if message["role"] == "tool":
            raise ValueError("Conversation roles must alternate")
        return super().said(message)


def call(name: str, arguments: object) -> dict[str, Any]:
    return {
        "id": "c1",
        "type": "function",
        "function": {"name": name, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)},
    }


TOOLS: tuple[dict[str, Any], ...] = ({"type": "function", "function": {"name": "look", "parameters": {}}},)
PLAIN: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "RULES"},
    {"role": "user", "content": "ask"},
    {"role": "assistant", "content": "answer"},
)
GOLDEN: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "RULES"},
    {"role": "user", "content": "ask"},
    {"role": "assistant", "content": None, "tool_calls": [call("look", {"at": 1})]},
    {"role": "tool", "tool_call_id": "c1", "content": "found"},
    {"role": "assistant", "content": "answer"},
)
