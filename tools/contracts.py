"""`make contracts`: write the AsyncAPI document and the diagram of a ritual's states from the contracts.

Other components program against docs/asyncapi/soulforge.json; a test compares it with the code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from inspect import cleandoc
from typing import Any

from deploy.services import OWNERS, subscriptions
from shared.config.settings import PROJECT
from shared.contracts.evacuate import GpuAccept, GpuContained, GpuReclaim, InferenceResumed, InferenceSuspended
from shared.contracts.intent import RitualCancel, RitualProgress, TrainingIntent
from shared.contracts.karma import KarmaConsecrated, KarmaRecalled, KarmaRevoked
from shared.contracts.message import Message
from shared.contracts.queue import QueueAsk, QueuePause, QueuePaused, QueueResume
from shared.contracts.registry import AdapterTainted
from shared.contracts.ritual import ENDS, FACTS, TRANSITIONS, State

ASYNCAPI = PROJECT / "docs" / "asyncapi" / "soulforge.json"
STATES = PROJECT / "docs" / "states.mmd"
COMMANDS: tuple[type[Message], ...] = (
    TrainingIntent,
    RitualCancel,
    GpuReclaim,
    GpuAccept,
    KarmaConsecrated,
    KarmaRevoked,
    QueuePaused,
)
ANNOUNCEMENTS: tuple[type[Message], ...] = (
    RitualProgress,
    InferenceSuspended,
    InferenceResumed,
    GpuContained,
    QueuePause,
    QueueResume,
    QueueAsk,
    KarmaRecalled,
    AdapterTainted,
)


def messages() -> Iterable[type[Message]]:
    """Every message on the bus."""
    return (*COMMANDS, *FACTS, *ANNOUNCEMENTS)


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0 of Soulforge: one channel per subject; `receive` for messages it consumes, `send` for those it publishes."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Soulforge", "version": "0.1.0", "license": {"name": "Apache-2.0"}},
        "channels": {message.subject: _channel(message) for message in messages()},
        "operations": dict(_operations()),
        "components": {
            "messages": {message.__name__: _message(message) for message in messages()},
            "schemas": {message.__name__: message.model_json_schema() for message in messages()},
        },
    }


def _channel(message: type[Message]) -> dict[str, Any]:
    reference = {"$ref": f"#/components/messages/{message.__name__}"}
    return {"address": message.subject, "messages": {message.__name__: reference}}


def _message(message: type[Message]) -> dict[str, Any]:
    return {
        "name": message.subject,
        "contentType": "application/json",
        "summary": cleandoc(message.__doc__ or "").splitlines()[0],
        "payload": {"$ref": f"#/components/schemas/{message.__name__}"},
    }


def _operations() -> Iterable[tuple[str, dict[str, Any]]]:
    for message in messages():
        consumers = sorted({one.service for one in subscriptions() if one.message is message})
        action = "receive" if message in COMMANDS else "send"
        yield (
            f"{action}-{message.subject}",
            {
                "action": action,
                "channel": {"$ref": f"#/channels/{message.subject}"},
                **({"description": f"Consumed by {', '.join(consumers)}."} if consumers else {}),
            },
        )


def states() -> str:
    """A Mermaid state diagram of the table in shared/contracts/ritual.py."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.INTENDED}"]
    arrows: dict[tuple[State, State], list[str]] = {}
    for (before, fact), after in TRANSITIONS.items():
        arrows.setdefault((before, after), []).append(fact.subject)
    lines += [f"    {before} --> {after}: {', '.join(facts)}" for (before, after), facts in arrows.items()]
    lines += [f"    {end} --> [*]" for end in State if end in ENDS]
    lines += [f"    note left of {state}: {owner}" for state, owner in OWNERS.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    ASYNCAPI.parent.mkdir(parents=True, exist_ok=True)
    ASYNCAPI.write_text(json.dumps(asyncapi(), indent=2, ensure_ascii=False) + "\n")
    STATES.write_text(states())


if __name__ == "__main__":
    main()
