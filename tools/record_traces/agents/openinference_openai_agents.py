"""OpenInference for openai-agents, over chat completions."""

from __future__ import annotations

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_trace_processors
from agents.agent import StopAtTools
from openai import AsyncOpenAI
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from tools.record_traces.scenario import SYSTEM, Run, balance, final_answer

FINAL = final_answer()
MODEL = OpenAIChatCompletionsModel


def instrument(provider: TracerProvider) -> None:
    set_trace_processors([])
    OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)


def give(answer: str) -> str:
    """Give the final answer."""
    return answer


def answer(run: Run, url: str) -> str:
    tools = [function_tool(balance)]
    if run.final:
        tools.append(function_tool(give, name_override="final_answer"))
    agent = Agent(
        name="accounts",
        instructions=SYSTEM,
        tools=tools,
        model=MODEL(model="scripted", openai_client=AsyncOpenAI(base_url=url, api_key="none", max_retries=0)),
        model_settings=ModelSettings(parallel_tool_calls=True),
        tool_use_behavior=StopAtTools(stop_at_tool_names=["final_answer"]),
    )
    return str(Runner.run_sync(agent, run.question).final_output)
