"""A request is parsed once, and nothing but the model's name is replaced."""

from __future__ import annotations

import asyncio
import json

import pytest

from services.gateway.errors import Refusal
from services.gateway.forward import count_tokens
from services.gateway.metrics import TOKENS
from services.gateway.request import Asked, parse

DEEP = 100_000


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "naïve \u0000 \U0001f525 \n"}], "temperature": 0.1, "n": 1},
        {"stream": True, "stream_options": {"include_usage": True}, "tools": [], "seed": 2**63, "x": [None, 1e-300]},
        {"Model": "scribe", "mode": {"model": "inside"}},
    ],
)
def test_nothing_but_the_model_is_replaced(fields: dict[str, object]) -> None:
    asked = Asked(json.dumps({"model": "scribe", **fields}).encode())

    assert asked.model == "scribe"
    assert json.loads(asked.body_for("scribe@a")) == {"model": "scribe@a", **fields}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"scribe"',
        b"{}",
        b'{"model": 1}',
        b'{"model": ""}',
        b'{"model": null}',
        b'{"model": ["scribe"]}',
        b'{"model": "a", "model": "b"}',
        b'{"model": "a", "x": {"y": 1, "y": 1}}',
        b'{"model": "a", "mod\\u0065l": "b"}',
        b'{"model": "a", "temperature": NaN}',
        b'{"model": "a", "temperature": Infinity}',
        b'{"model": "a", "temperature": 1e999}',
        b'{"model": "a", "seed": 1' + b"0" * 400 + b"}",
        b'{"model": "a", "seed": 1' + b"0" * 5000 + b"}",
        b'{"model": "a", "x": "\\ud800"}',
        b'{"model": "a", "x": "\xff"}',
        b'{"model": "a"} {"model": "b"}',
        b'{"model": "a",}',
        b"{'model': 'a'}",
        b'{"model": "a", "x": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"model": "a", "x": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"model": "a", "x": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    ],
)
def test_what_is_no_request_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        Asked(body).body_for("b")

    assert refused.value.status == 400


async def test_the_loop_goes_on_while_a_large_request_is_parsed() -> None:
    body = b'{"model": "a", "x": [' + b",".join([b"{}"] * 400_000) + b"]}"
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    await asyncio.sleep(0)
    asked = await parse(Asked, body)
    counting.cancel()

    assert asked.model == "a" and turns > 5
    with pytest.raises(Refusal):
        await parse(Asked, body[:-1])


@pytest.mark.parametrize(
    ("tail", "prompt", "completion"),
    [
        (b'..."usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}}', 5, 2),
        (b'data: {"usage": {"prompt_tokens": 5, "completion_tokens": 2, "d": {"a": 1}}}\n\ndata: [DONE]\n\n', 5, 2),
        (b'"usage":{"input_tokens":5,"output_tokens":2,"x":null}', 5, 2),
        (b'"usage":null}', 0, 0),
        (b'"usage":{"prompt_tokens":"5"}', 0, 0),
        (b'"usage":{"prompt_tokens":-5,"completion_tokens":2}', 0, 2),
        (b'"usage":{broken}', 0, 0),
        (b'tokens":5,"completion_tokens":2}', 0, 0),
    ],
)
def test_the_tokens_that_an_answer_reports_are_counted(tail: bytes, prompt: int, completion: int) -> None:
    counters = [TOKENS.labels("scribe", kind) for kind in ("prompt", "completion")]
    before = [counter._value.get() for counter in counters]

    count_tokens("scribe", tail)

    assert [counter._value.get() - was for counter, was in zip(counters, before, strict=True)] == [prompt, completion]


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 1024),
        ({"max_tokens": 0}, 1024),
        ({"max_tokens": "8"}, 1024),
        ({"max_tokens": 8}, 8),
        ({"max_completion_tokens": 8, "max_tokens": 80}, 80),
        ({"max_tokens": 8, "n": 5}, 40),
        ({"n": 5, "best_of": 7}, 7 * 1024),
        ({"max_tokens": 8, "prompt": ["a", "b"], "n": 2}, 32),
        ({"max_tokens": 8, "prompt": [[1, 2], [3]]}, 16),
        ({"max_tokens": 8, "prompt": [1, 2, 3]}, 8),
        ({"max_tokens": 8, "prompt": []}, 8),
    ],
)
def test_what_all_answers_to_a_request_may_cost_is_estimated(fields: dict[str, object], tokens: int) -> None:
    assert Asked(json.dumps({"model": "scribe", **fields}).encode()).estimate_tokens(1024) == tokens
