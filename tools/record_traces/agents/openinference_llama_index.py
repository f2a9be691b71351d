"""OpenInference for llama-index: FunctionAgent."""

from __future__ import annotations

import asyncio

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from tools.record_traces.scenario import SYSTEM, Run, balance, final_answer

FINAL = final_answer()


def instrument(provider: TracerProvider) -> None:
    LlamaIndexInstrumentor().instrument(tracer_provider=provider)


def give(answer: str) -> str:
    """Give the final answer."""
    return answer


def answer(run: Run, url: str) -> str:
    tools = [FunctionTool.from_defaults(balance)]
    if run.final:
        tools.append(FunctionTool.from_defaults(give, name="final_answer", return_direct=True))
    agent = FunctionAgent(
        tools=tools,
        system_prompt=SYSTEM,
        llm=OpenAI(model="gpt-4o", api_base=url, api_key="none", max_retries=0),
        streaming=False,
    )

    async def ask() -> str:
        return str(await agent.run(run.question))

    return asyncio.run(ask())
