"""A small agent as its author would write and instrument it, and the scripted model that leads it into three dead ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai
from openinference.instrumentation import OITracer, TracerProvider
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry import trace
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from tools.record_traces.model import serving

SYSTEM = "You look after water tanks. Use the tools; answer in one sentence."
QUESTION = "How many litres does the tank of the north site hold?"
ANSWER = "The tank of the north site holds 4200 litres."
FIRST_ANSWER = "It holds about 4000 litres, I believe."
SITES = {"North": 4200, "South": 1800}


def tool(name: str, **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": sorted(properties)}
    return {"type": "function", "function": {"name": name, "description": f"{name}.", "parameters": schema}}


TOOLS = [
    tool("read_sheet", path="string"),
    tool("list_sites"),
    tool("tank", site="string"),
    tool("guess", site="string"),
]


def asks(*calls: tuple[str, str, dict[str, str]], content: str | None = None) -> dict[str, Any]:
    tool_calls = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for id, name, arguments in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": tool_calls}


def says(*contents: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": content} for content in contents]


# What the model answers, call by call; a number is an HTTP error.
SCRIPT: tuple[Any, ...] = (
    # Dead end 1: one of two tools fails.
    [asks(("call_sheet", "read_sheet", {"path": "tanks.csv"}), ("call_sites", "list_sites", {}))],
    # Dead end 2: wrong arguments, and a server error on the way to the right ones.
    [asks(("call_wrong", "tank", {"site": "north site"}), content="I look the north site up.")],
    503,
    [asks(("call_right", "tank", {"site": "North"}))],
    # Dead end 3: a scout looks elsewhere; what it finds is thrown away.
    [asks(("call_guess", "guess", {"site": "North"}))],
    says(FIRST_ANSWER),
    # Two samples; the agent chooses the second.
    says(FIRST_ANSWER, ANSWER),
)


@contextmanager
def scripted_model(script: tuple[Any, ...] = SCRIPT) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The base URL of a server with OpenAI's chat API, and the requests it got."""
    requests: list[dict[str, Any]] = []

    def respond(path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        requests.append(asked)
        answer = script[len(requests) - 1]
        return (answer, {"error": {"message": "busy"}}) if isinstance(answer, int) else (200, completion(answer))

    with serving(respond) as url:
        yield url, requests


def completion(messages: list[dict[str, Any]]) -> dict[str, Any]:
    choices = [
        {"index": index, "message": message, "finish_reason": "tool_calls" if message.get("tool_calls") else "stop"}
        for index, message in enumerate(messages)
    ]
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": choices,
        "usage": usage,
    }


@contextmanager
def instrumented(exporter: SpanExporter) -> Iterator[OITracer]:
    """A tracer, and an openai client that is traced by it."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield provider.get_tracer("tank-agent")
    finally:
        instrumentor.uninstrument()
        provider.shutdown()


class TankAgent:
    """Asks the model, runs the tools it asks for, and goes on until it answers."""

    def __init__(self, client: openai.OpenAI, tracer: OITracer) -> None:
        self.client = client
        self.tracer = tracer
        self.tools: dict[str, Callable[..., Any]] = {
            function.__name__: tracer.tool(function) for function in (read_sheet, list_sites, tank, guess)
        }

    def run(self, question: str) -> tuple[str, str]:
        """The answer and the id of the trace."""

        @self.tracer.agent(name="tank-agent")
        def answer(question: str) -> str:
            trace_ids.append(trace.format_trace_id(trace.get_current_span().get_span_context().trace_id))
            messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
            for _ in range(3):
                self.step(messages, self.complete(messages)[0])
            self.scout(messages)
            return max((str(said["content"]) for said in self.complete(messages, n=2)), key=len)

        trace_ids: list[str] = []
        return answer(question), trace_ids[0]

    def scout(self, messages: list[Any]) -> str:
        """A second opinion, asked on a copy of the conversation."""

        @self.tracer.agent(name="scout")
        def look(question: str) -> str:
            aside = list(messages)
            self.step(aside, self.complete(aside)[0])
            return str(self.complete(aside)[0]["content"])

        return look(QUESTION)

    def complete(self, messages: list[Any], n: int = 1) -> list[dict[str, Any]]:
        for _ in range(2):
            try:
                answer = self.client.chat.completions.create(model="scripted", messages=messages, tools=TOOLS, n=n)  # type: ignore[arg-type]
                return [choice.message.model_dump(exclude_none=True) for choice in answer.choices]
            except openai.InternalServerError:
                continue
        raise RuntimeError("the model does not answer")

    def step(self, messages: list[Any], said: dict[str, Any]) -> None:
        messages.append(said)
        for call in said["tool_calls"]:
            function = call["function"]
            try:
                found = json.dumps(self.tools[function["name"]](**json.loads(function["arguments"])))
            except (OSError, LookupError) as error:
                found = f"{type(error).__name__}: {error}"
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": found})


def read_sheet(path: str) -> str:
    raise FileNotFoundError(path)


def list_sites() -> list[str]:
    return sorted(SITES)


def tank(site: str, unit: str = "litres") -> dict[str, Any]:
    if site not in SITES:
        raise LookupError(f"no site {site}")
    return {"site": site, "volume": SITES[site], "unit": unit}


def guess(site: str) -> int:
    return 4000


@dataclass(frozen=True)
class Run:
    """What one run of the agent came to: its answer, the id of its trace, and what it asked the model."""

    answer: str
    trace_id: str
    requests: list[dict[str, Any]]


def run_agent(exporter: SpanExporter) -> Run:
    with (
        scripted_model() as (model_url, requests),
        instrumented(exporter) as tracer,
        openai.OpenAI(base_url=model_url, api_key="none", max_retries=0) as client,
    ):
        answer, trace_id = TankAgent(client, tracer).run(QUESTION)
    return Run(answer, trace_id, requests)
