"""OpenInference for langgraph: a graph built by hand, with its own ToolNode."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from tools.record_traces.scenario import SYSTEM, Run, balance, final_answer

FINAL = final_answer()


def instrument(provider: TracerProvider) -> None:
    LangChainInstrumentor().instrument(tracer_provider=provider)


@tool(return_direct=True)
def final_answer_tool(answer: str) -> str:
    """Give the final answer."""
    return answer


final_answer_tool.name = "final_answer"


def answer(run: Run, url: str) -> str:
    tools = [tool(balance), final_answer_tool] if run.final else [tool(balance)]
    model = ChatOpenAI(model="scripted", base_url=url, api_key="none", max_retries=0).bind_tools(tools)

    def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke([SystemMessage(SYSTEM), *state["messages"]])]}

    def after(state: MessagesState) -> str:
        return "__end__" if state["messages"][-1].name == "final_answer" else "think"

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(tools, handle_tool_errors=True))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_conditional_edges("tools", after, ["think", "__end__"])
    state = graph.compile().invoke({"messages": [HumanMessage(run.question)]})
    return str(state["messages"][-1].content)
