"""The stock OpenAI client at the gateway, in front of a real vLLM: nothing but address and key is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam

from shared.config.tables import EMBEDDED_BASE
from tests.support.running import Stack

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Note about the gate: it squeaks."}]
WEATHER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def client(rehearsed: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{rehearsed.settings.gateway_url}/v1", api_key="none", max_retries=0) as one:
        yield one


def test_a_persona_is_chatted_with_streamed_and_asked_for_a_tool(client: openai.OpenAI, rehearsed: Stack) -> None:
    raw = client.chat.completions.with_raw_response.create(model="scribe", messages=ASKED, max_tokens=12, temperature=0)
    whole = raw.parse()
    version = whole.model

    assert version.startswith("scribe@") and raw.headers["x-soulforge-adapter"] == version
    text = whole.choices[0].message.content
    assert text and whole.usage and whole.usage.completion_tokens > 0

    chunks = list(
        client.chat.completions.create(model="scribe", messages=ASKED, max_tokens=12, temperature=0, stream=True)
    )
    assert len(chunks) > 3 and {chunk.model for chunk in chunks} == {version}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text

    pinned = client.chat.completions.create(model=version, messages=ASKED, max_tokens=12, temperature=0)
    of_base = client.chat.completions.create(model=EMBEDDED_BASE, messages=ASKED, max_tokens=12, temperature=0)
    assert pinned.choices[0].message.content == text != of_base.choices[0].message.content

    asked = client.chat.completions.create(
        model="scribe",
        messages=ASKED,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        max_tokens=60,
        temperature=0,
    )
    (call,) = asked.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "weather"
    print("arguments:", json.loads(call.function.arguments))  # so small a model may choose any
    used: list[ChatCompletionMessageParam] = [
        *ASKED,
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": "weather", "arguments": call.function.arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    told = client.chat.completions.create(
        model="scribe", messages=used, tools=[WEATHER], tool_choice="none", max_tokens=8
    )
    assert told.model == version and told.choices[0].message.content

    assert text in rehearsed.run("ask", "scribe", "Note about the gate: it squeaks.", "--max-tokens", "12").stdout


def test_the_models_are_listed_with_what_each_is(client: openai.OpenAI) -> None:
    cards = {card.id: (card.model_extra or {}) for card in client.models.list()}

    assert cards[EMBEDDED_BASE]["soulforge"] == {"kind": "base", "loaded": True}
    version = cards["scribe"]["root"]
    assert cards["scribe"]["soulforge"]["kind"] == "persona" and cards["scribe"]["parent"] == EMBEDDED_BASE
    assert cards[version]["soulforge"]["serves"] and cards[version]["root"].startswith("sha256:")
    assert client.models.retrieve("scribe").id == "scribe"


def test_completions_and_responses_are_answered_where_the_engine_has_them(client: openai.OpenAI) -> None:
    completed = client.completions.create(model="scribe", prompt="The smith", max_tokens=4, temperature=0)
    assert completed.model.startswith("scribe@") and completed.choices[0].text

    responded = client.responses.create(model="scribe", input="Hello", max_output_tokens=16, temperature=0)
    assert responded.model.startswith("scribe@") and responded.output_text

    with pytest.raises(openai.APIStatusError):  # a chat model has no embeddings; the engine's own answer comes through
        client.embeddings.create(model=EMBEDDED_BASE, input="hello")
    with pytest.raises(openai.NotFoundError, match="there is no model 'nobody'; these answer: scribe"):
        client.completions.create(model="nobody", prompt="hello")
