"""Conversations are prepared for a chat template as the serving engine's own code prepares them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from shared.config.settings import PROJECT
from shared.jobs.chat_template import template_messages, template_tools
from tests.support.model import JOBS_PYTHON

TIMEOUT_S = 120

pytestmark = pytest.mark.skipif(not JOBS_PYTHON.is_file(), reason=f"needs the jobs environment at {JOBS_PYTHON}")

# What vLLM does to a request between its endpoint and the template, for templates that take content as text.
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
messages = [part for message in request.messages for part in _parse_chat_message_content(message, Tracker(), "string", False)]
_postprocess_messages(messages)
print(json.dumps([messages, [tool.model_dump() for tool in request.tools]]))
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
    {"role": "assistant", "content": "answer"},
]
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"parameters": {"type": "object", "properties": {}}, "name": "look"}, "extra": 1},
    {"function": {"strict": True, "name": "wait", "description": "waits", "extra": 1}, "type": "function"},
]


def test_messages_and_tools_reach_the_template_as_the_serving_engine_gives_them() -> None:
    served = subprocess.run(
        [str(JOBS_PYTHON), "-c", SERVING],
        input=json.dumps({"messages": MESSAGES, "tools": TOOLS}),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert served.returncode == 0, served.stderr[-3000:]
    # As text: the order of keys is part of what a template may show.
    assert json.dumps([template_messages(MESSAGES), template_tools(TOOLS)]) == served.stdout.splitlines()[-1]
