"""Alpaca's format: `{"instruction", "input", "output"}`, with the `system` and `history` that LLaMA-Factory adds."""

from __future__ import annotations

from typing import Any

from deploy.cli.import_formats.record import Conversation, RecordError, json_type, text


def matches(values: dict[str, Any]) -> bool:
    return "instruction" in values


def conversation(values: dict[str, Any]) -> Conversation:
    """Raises RecordError."""
    for name in ("instruction", "output"):
        if name not in values:
            raise RecordError(f"no {name}")
    messages = []
    if values.get("system"):
        messages.append({"role": "system", "content": text(values["system"], "system")})
    for asked, answered in _history(values.get("history")):
        messages += _turn(asked, answered)
    asked = text(values["instruction"], "instruction")
    if values.get("input"):
        asked = f"{asked}\n\n{text(values['input'], 'input')}"
    answered = text(values["output"], "output")
    if not asked.strip() or not answered.strip():
        raise RecordError(
            "no assistant answer: output is empty" if asked.strip() else "instruction and input are empty"
        )
    return Conversation(messages + _turn(asked, answered))


def _turn(asked: str, answered: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


def _history(value: object) -> list[tuple[str, str]]:
    """Read earlier turns, each a question and its answer."""
    if not value:
        return []
    if not isinstance(value, list):
        raise RecordError(f"history: {json_type(value)}, not an array")
    for number, turn in enumerate(value):
        if not isinstance(turn, list) or len(turn) != 2:
            raise RecordError(f"history.{number}: not a question and an answer")
    return [(text(q, f"history.{n}.0"), text(a, f"history.{n}.1")) for n, (q, a) in enumerate(value)]
