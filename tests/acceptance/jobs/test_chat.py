"""Conversations are prepared for a chat template as the serving engine's own code prepares them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shared.config.settings import PROJECT
from shared.jobs.chat_template import template_messages, template_tools
from tests.support.model import JOBS_PYTHON

TIMEOUT_S = 120

pytestmark = pytest.mark.skipif(not JOBS_PYTHON.is_file(), reason=f"needs the jobs environment at {JOBS_PYTHON}")

# What vLLM does to a request between its endpoint and the template, for templates that take content as text and as parts.
SERVING = """
import json, sys
from types import SimpleNamespace
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.renderers.chat_utils import _parse_chat_message_content, _postprocess_messages

class Tracker:
    model_config = SimpleNamespace(enable_prompt_embeds=False)
    def create_parser(self, **_):
        return SimpleNamespace(mm_placeholder_storage=dict, model_config=self.model_config)

request = ChatCompletionRequest(model="m", **json.load(sys.stdin))
def parsed(form):
    messages = [part for message in request.messages for part in _parse_chat_message_content(message, Tracker(), form, False)]
    _postprocess_messages(messages)
    return messages
print(json.dumps([parsed("string"), parsed("openai"), [tool.model_dump() for tool in request.tools]]))
"""


def call(arguments: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "look", "arguments": arguments}, "id": "c1"}


MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "rules"},
    {"role": "user", "content": "ask", "name": "ann"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [call(given) for given in ('{"b": 1, "a": [2]}', "", "none", "[1]", "42", "null")],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "found"},
    {"role": "tool", "tool_call_id": "c1", "content": ""},
    {"role": "assistant", "content": "Let me look.", "tool_calls": [call("{}")]},
    {"role": "assistant", "content": "answer", "reasoning": "a thought"},
    {"role": "user", "content": "again"},
    {"role": "assistant", "content": "answer", "reasoning_content": "by its older name"},
]
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"parameters": {"type": "object", "properties": {}}, "name": "look"}, "extra": 1},
    {"function": {"strict": True, "name": "wait", "description": "waits", "extra": 1}, "type": "function"},
]


def run(*command: str, given: str = "") -> str:
    """Run in the jobs environment; returns what it prints."""
    done = subprocess.run(
        [str(JOBS_PYTHON), *command],
        input=given,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_messages_and_tools_reach_the_template_as_the_serving_engine_gives_them() -> None:
    served = run("-c", SERVING, given=json.dumps({"messages": MESSAGES, "tools": TOOLS})).splitlines()[-1]
    # As text: the order of keys is part of what a template may show.
    ours = [template_messages(MESSAGES), template_messages(MESSAGES, parts=True), template_tools(TOOLS)]
    assert json.dumps(ours) == served


def test_what_is_trained_follows_the_prompts_that_are_served_in_every_family(tmp_path: Path) -> None:
    """Rendered by the serving engine's own code, and compared token by token with what stands before the trained ones."""
    run("-m", "tools.chat_templates", str(tmp_path / "table.md"))
    table = (tmp_path / "table.md").read_text()
    assert table == (PROJECT / "docs" / "chat-templates.md").read_text(), "write it again: see its first lines"
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert sum(row[1] == row[2] == "whole" for row in rows) >= 16
