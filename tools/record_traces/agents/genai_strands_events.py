"""Strands' own instrumentation: OTel GenAI, content in span events (`gen_ai.user.message`, `gen_ai.choice`, ...)."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel
from strands import Agent, tool
from strands.models.openai import OpenAIModel

from tools.record_traces.scenario import SYSTEM, Ask, Run, balance

FINAL = Ask((("call_final", "Holding", {"account": "harbour", "crowns": 4200}),))


class Holding(BaseModel):
    """What an account holds."""

    account: str
    crowns: int


def instrument(provider: TracerProvider) -> None:
    trace.set_tracer_provider(provider)


def answer(run: Run, url: str) -> str:
    client = {"base_url": url, "api_key": "none", "max_retries": 0}
    model = OpenAIModel(client_args=client, model_id="scripted", stream=False)
    agent = Agent(model=model, tools=[tool(balance)], system_prompt=SYSTEM, callback_handler=None)
    if run.final:
        return str(agent(run.question, structured_output_model=Holding).structured_output.model_dump_json())
    return str(agent(run.question)).strip()
