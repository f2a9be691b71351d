"""OpenInference for smolagents: ToolCallingAgent, whose every answer is a call of `final_answer`."""

from __future__ import annotations

from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from smolagents import OpenAIModel, ToolCallingAgent, tool

from tools.record_traces import scenario
from tools.record_traces.scenario import Run, final_answer

FINAL = final_answer()
ALWAYS_FINAL = True


def instrument(provider: TracerProvider) -> None:
    SmolagentsInstrumentor().instrument(tracer_provider=provider)


def answer(run: Run, url: str) -> str:
    model = OpenAIModel(model_id="scripted", api_base=url, api_key="none")
    agent = ToolCallingAgent(
        tools=[tool(scenario.balance)], model=model, verbosity_level=0, instructions=scenario.SYSTEM
    )
    agent.prompt_templates["system_prompt"] = scenario.SYSTEM
    return str(agent.run(run.question))
