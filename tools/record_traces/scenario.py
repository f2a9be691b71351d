"""What every recorded agent does: four runs about made-up accounts, and the tool they call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

SYSTEM = "You keep the accounts. Use the tools; answer in one sentence."
ACCOUNTS = {"harbour": 4200, "mill": 1800}
ANSWER = "The harbour account holds 4200 crowns."
BOTH = "Together the harbour and mill accounts hold 6000 crowns."


def balance(account: str) -> int:
    """Balance of an account in crowns.

    Args:
        account: name of the account
    """
    if account not in ACCOUNTS:
        raise LookupError(f"no account {account}")
    return ACCOUNTS[account]


def tool(name: str, description: str, parameter: str, kind: str = "string") -> dict[str, Any]:
    schema = {"type": "object", "properties": {parameter: {"type": kind}}, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


BALANCE = tool("balance", "Balance of an account in crowns.", "account")
FINAL_ANSWER = tool("final_answer", "Give the final answer.", "answer")


@dataclass(frozen=True)
class Ask:
    """The model asks for tools: (id, name, arguments) each."""

    calls: tuple[tuple[str, str, dict[str, Any]], ...]


@dataclass(frozen=True)
class Run:
    """One run: what the user asks and what the model replies, call by call; `final` where the answer is in a tool."""

    name: str
    question: str
    script: tuple[Ask | str, ...]
    final: bool = False


def ask(*accounts: str, first: int = 1) -> Ask:
    return Ask(tuple((f"call_{first + n}", "balance", {"account": each}) for n, each in enumerate(accounts)))


def runs(final: Ask, always: bool) -> tuple[Run, ...]:
    """The four runs; `final` is how the agent's model gives its answer in a tool, `always` whether it does so in each."""
    one = "How many crowns does the harbour account hold?"
    words, both = (final_answer(ANSWER), final_answer(BOTH)) if always else (ANSWER, BOTH)
    return (
        Run("one_call", one, (ask("harbour"), words)),
        Run("failed_then_good", one, (ask("harbour office"), ask("harbour", first=2), words)),
        Run(
            "parallel_calls",
            "How many crowns do the harbour and mill accounts hold together?",
            (ask("harbour", "mill"), both),
        ),
        Run("answer_in_a_tool", one, (ask("harbour"), final), final=True),
    )


def final_answer(words: str = ANSWER) -> Ask:
    return Ask((("call_final", "final_answer", {"answer": words}),))


def execute(name: str, arguments: str | dict[str, Any]) -> tuple[str, bool]:
    """What a hand-written loop hands to the model: the result as text, and whether the tool failed."""
    given = json.loads(arguments) if isinstance(arguments, str) else arguments
    try:
        return str({"balance": balance, "final_answer": str}[name](*given.values())), False
    except LookupError as error:
        return f"LookupError: {error.args[0]}", True
