"""`make contracts`: write the AsyncAPI document, the diagram of a ritual's states and the table of recipes from the code.

Other components program against docs/asyncapi/soulforge.json; a test compares it with the code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from inspect import cleandoc
from typing import Any

from deploy.services import OWNERS, subscriptions
from shared.config.recipe import SHIPPED, Recipe, load_recipe
from shared.config.settings import PROJECT
from shared.contracts.message import Message
from shared.contracts.ritual import ENDS, TRANSITIONS, State
from shared.contracts.roles import PUBLISHERS, is_command
from shared.contracts.scopes import SCOPES

ASYNCAPI = PROJECT / "docs" / "asyncapi" / "soulforge.json"
STATES = PROJECT / "docs" / "states.mmd"
RECIPES = PROJECT / "docs" / "recipes.md"
SECURITY = {"$ref": "#/components/securitySchemes/nkey"}
KEYS = (
    "An nkey (Ed25519): the server's nonce is signed with the seed in <home>/secrets/bus/<role>.nk. An inbox begins with "
    "`_INBOX_<role>.`, the client's inbox prefix."
)


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0 of Soulforge: one channel per subject; `receive` for messages it consumes, `send` for those it publishes."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Soulforge", "version": "0.1.0", "license": {"name": "Apache-2.0"}},
        "servers": {"embedded": {"host": "127.0.0.1:7600", "protocol": "nats", "security": [SECURITY]}},
        "channels": {message.subject: _channel(message) for message in PUBLISHERS},
        "operations": dict(_operations()),
        "components": {
            "messages": {message.__name__: _message(message) for message in PUBLISHERS},
            "schemas": {message.__name__: message.model_json_schema() for message in PUBLISHERS},
            "securitySchemes": {"nkey": {"type": "asymmetricEncryption", "description": KEYS}},
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
    for message, roles in PUBLISHERS.items():
        consumers = sorted({one.service for one in subscriptions() if one.message is message})
        action = "receive" if is_command(message) else "send"
        consumed = f" Consumed by {', '.join(consumers)}." if consumers else ""
        yield (
            f"{action}-{message.subject}",
            {
                "action": action,
                "channel": {"$ref": f"#/channels/{message.subject}"},
                **({"x-scope": SCOPES[message]} if message in SCOPES else {}),
                "description": f"Published by {', '.join(sorted(roles))}.{consumed}",
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


def recipes() -> str:
    """Every field of a recipe, with its values in the shipped ones."""
    shipped = {file.stem: load_recipe(file.stem) for file in sorted(SHIPPED.glob("*.toml"))}
    comments = {name: (SHIPPED / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0][2:] for name in shipped}
    lines = [
        "# Recipes\n",
        "A recipe is named in an intent (`soulforge intend scribe --recipe auto`). It is one of the shipped ones",
        "([shared/config/recipes](../shared/config/recipes)) or your own: `NAME.toml` in the folder that `soulforge.toml` names",
        "as `recipes`. It is checked with the intent against what the serving engine accepts and against the base: its",
        "architecture, its layers, its template, its digest. Written by `make contracts`.\n",
        *(f"- `{name}`: {comment}" for name, comment in comments.items()),
        "",
        f"| field | default | {' | '.join(shipped)} | |",
        "|" + "---|" * (len(shipped) + 3),
    ]
    for name, field in Recipe.model_fields.items():
        cells = [_differing(getattr(recipe, name), field.default) for recipe in shipped.values()]
        lines.append(f"| `{name}` | {_value(field.default)} | {' | '.join(cells)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _differing(value: object, default: object) -> str:
    return "" if value == default else _value(value)


def _value(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)


def main() -> None:
    ASYNCAPI.parent.mkdir(parents=True, exist_ok=True)
    ASYNCAPI.write_text(json.dumps(asyncapi(), indent=2, ensure_ascii=False) + "\n")
    STATES.write_text(states())
    RECIPES.write_text(recipes(), encoding="utf-8")


if __name__ == "__main__":
    main()
