"""A pydantic-ai agent; in the last run it has an output type, which its model gives as the call `final_result`."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tools.record_traces import scenario
from tools.record_traces.scenario import SYSTEM, Ask, Run

FINAL = Ask((("call_final", "final_result", {"account": "harbour", "crowns": 4200}),))


class Holding(BaseModel):
    """What an account holds."""

    account: str
    crowns: int


def balance(account: str) -> int:
    """Balance of an account in crowns."""
    try:
        return scenario.balance(account)
    except LookupError as error:
        raise ModelRetry(str(error.args[0])) from error


def answer(run: Run, url: str) -> str:
    model = OpenAIChatModel("scripted", provider=OpenAIProvider(base_url=url, api_key="none"))
    if run.final:
        return (
            Agent(model, system_prompt=SYSTEM, tools=[balance], output_type=Holding)
            .run_sync(run.question)
            .output.model_dump_json()
        )
    return Agent(model, system_prompt=SYSTEM, tools=[balance]).run_sync(run.question).output
