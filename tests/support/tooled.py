"""A base whose chat template knows tools: the tested model's files under a template of the usual form.

Its tokenizer has no pad token, as that of Llama 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEMPLATE = """\
{%- if tools %}<|im_start|>system
Tools: {{ tools | tojson }}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}<call>{"name": "{{ call.function.name }}", "arguments": {
{%- for name, value in call.function.arguments.items() %}"{{ name }}": {{ value | tojson }}{% endfor %}}}</call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

TOKENIZER = "tokenizer_config.json"
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}}}
]


def tooled_base(folder: Path, model: Path) -> Path:
    """`model` by links, under a template that shows tools and calls."""
    folder.mkdir()
    for file in model.iterdir():
        if file.name not in ("chat_template.jinja", TOKENIZER):
            (folder / file.name).symlink_to(file.resolve())
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    tokenizer = json.loads((model / TOKENIZER).read_text(encoding="utf-8"))
    tokenizer.pop("pad_token", None)
    (folder / TOKENIZER).write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def golden(number: int) -> list[dict[str, Any]]:
    """A path to an answer that calls a tool."""
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": f'{{"to": {number}}}'}}
    return [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": f"What comes after {number}?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": str(number + 1)},
        {"role": "assistant", "content": f"Plainly {number + 1}."},
    ]
