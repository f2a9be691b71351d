"""LangChain's `create_agent`, which runs on LangGraph."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import wrap_tool_call
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tools.record_traces.scenario import SYSTEM, Ask, Run, balance

FINAL = Ask((("call_final", "Holding", {"account": "harbour", "crowns": 4200}),))


class Holding(BaseModel):
    """What an account holds."""

    account: str
    crowns: int


@wrap_tool_call
def tell_errors(request: Any, handler: Callable[[Any], Any]) -> Any:
    try:
        return handler(request)
    except LookupError as error:
        return ToolMessage(content=f"Tool error: {error.args[0]}", tool_call_id=request.tool_call["id"], status="error")


def answer(run: Run, url: str) -> str:
    model = ChatOpenAI(model="scripted", base_url=url, api_key="none", max_retries=0)
    agent = create_agent(
        model,
        [tool(balance)],
        system_prompt=SYSTEM,
        middleware=[tell_errors],
        response_format=ToolStrategy(Holding) if run.final else None,
    )
    state = agent.invoke({"messages": [{"role": "user", "content": run.question}]})
    if run.final:
        return json.dumps(state["structured_response"].model_dump())
    return str(state["messages"][-1].content)
