"""Check the mask audit on the chat templates of current model families, as the serving engine renders them.

`.venv-jobs/bin/python -m tools.chat_templates` writes docs/chat-templates.md, or the file that is named. The templates are
those that TRL carries, each with a small tokenizer of bytes made here; the prompts are rendered by vLLM's own code, and
must be, token by token, what stands before the trained tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.renderers.chat_utils import _parse_chat_message_content, _postprocess_messages
from vllm.renderers.hf import _detect_content_format

from services.forge.trainer.render import IGNORED, Example, UnfitRow, render
from services.forge.trainer.rows import Row
from shared.config.settings import PROJECT
from shared.contracts.karma import trained_turns
from shared.jobs.chat_template import Message, unrendered

DOCUMENT = PROJECT / "docs" / "chat-templates.md"
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
FAMILIES = {
    "Qwen 2.5": "qwen2_5",
    "Qwen 3": "qwen3",
    "Qwen 3 Instruct 2507": "qwen3_instruct_2507",
    "Qwen 3.5, thinking": "qwen3_5_think",
    "Qwen 3.5, not thinking": "qwen3_5_nothink",
    "Qwen 3.6": "qwen3_6",
    "Qwen 3.8": "qwen3_8",
    "Llama 3": "llama3",
    "Llama 3.2": "llama3_2",
    "Gemma 3": "gemma3",
    "Gemma 4": "gemma4_v5",
    "Phi 3.5": "phi3_5",
    "DeepSeek V3": "deepseekv3",
    "DeepSeek R1 distilled": "deepseek_r1_distill",
    "GLM 4 MoE": "glm4moe",
    "gpt-oss": "gptoss",
    "LFM 2.5": "lfm2_2_5_v2",
    "Cohere 2": "cohere2",
    "Nemotron 3 Nano": "nemotron_3_nano",
    "Muse Glimmer": "muse_glimmer",
}
# What ends a turn of the assistant, by the models' own generation configurations.
ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "<|return|>", "<|call|>", "<｜end▁of▁sentence｜>"),
    *("<|END_OF_TURN_TOKEN|>", "<|end|>", "<|eot|>", "<|endoftext|>", "</s>", "<|tool_response>"),
    *("<|user|>", "<|observation|>"),
)
TOOLS = ({"type": "function", "function": {"name": "look", "description": "looks", "parameters": {"type": "object"}}},)
SYSTEM: Message = {"role": "system", "content": "Be brief."}
ASK: Message = {"role": "user", "content": "Where is the lamp?"}
ANSWER: Message = {"role": "assistant", "content": "In the hall."}
CALL: Message = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "callabcd1", "type": "function", "function": {"name": "look", "arguments": '{"at": "hall"}'}}
    ],
}
FOUND: Message = {"role": "tool", "tool_call_id": "callabcd1", "content": "a lamp"}
CASES: dict[str, tuple[tuple[Message, ...], tuple[dict[str, Any], ...]]] = {
    "one turn": ((ASK, ANSWER), ()),
    "system prompt": ((SYSTEM, ASK, ANSWER), ()),
    "several turns": ((SYSTEM, ASK, ANSWER | {"weight": 1}, ASK, ANSWER), ()),
    "tool calls": ((ASK, CALL, FOUND, ANSWER), TOOLS),
    "a call at the end": ((ASK, CALL), TOOLS),
    "reasoning": ((ASK, ANSWER | {"reasoning": "The hall has one."}), ()),
}
HEADER = """\
# Chat templates

What the mask audit finds with the templates of current model families, for each kind of row. Written by
`.venv-jobs/bin/python -m tools.chat_templates`; a test compares it with what the installed packages carry.

- **whole**: one example; every trained turn begins, token by token, after exactly what vLLM would render as its prompt.
- **by turn**: the same, with an example for each trained turn, since the template renders earlier turns in another way.
- A thought is trained where the template shows it, and left out where it does not.
- Everything else is why such a row is not trained. It is counted under this name in the training figures, and named in
  `left-out.jsonl` of the run; a base that can show less than half of the rows, or trains less than nine tenths of
  the shown ones, is refused.

"""


def main() -> None:
    rows = [(family, [verdict(name, *case) for case in CASES.values()]) for family, name in FAMILIES.items()]
    table = _line("Family", list(CASES)) + _line("---", ["---"] * len(CASES)) + "".join(_line(*row) for row in rows)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENT
    # Not printed: vLLM logs to the same place.
    target.write_text(HEADER + table, encoding="utf-8")


def verdict(family: str, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> str:
    """What the audit makes of a row, after comparing it with what is served."""
    tokenizer = _tokenizer((TEMPLATES / f"{family}.jinja").read_text(encoding="utf-8"))
    row = Row(id="row", messages=tuple(messages), tools=tuple(tools), prompt="full")
    if reason := unrendered(tokenizer, row.messages, row.tools):
        return reason.removeprefix("the chat template ")
    try:
        examples = render(tokenizer, row, {tokenizer.convert_tokens_to_ids(end) for end in ENDS})
    except UnfitRow as error:
        return str(error).removeprefix("the chat template ")
    turns = trained_turns(row.messages)
    for place, at in enumerate(turns):
        _expect_served(examples[place if len(examples) > 1 else 0], _served(tokenizer, row.messages[:at], row.tools))
    return "whole" if len(examples) == 1 else "by turn"


def _expect_served(example: Example, served: list[int]) -> None:
    start = len(served)
    is_trained = [label != IGNORED for label in example.labels[start - 1 : start + 1]]
    if list(example.input_ids[:start]) != served or is_trained != [False, True]:
        raise AssertionError(f"row {example.id} is trained after another prompt than is served")


def _served(tokenizer: Any, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> list[int]:
    """The prompt of a request, as vLLM makes it: its own parsing, in the form of content that it finds for the template."""
    request = ChatCompletionRequest(model="m", messages=[_sent(message) for message in messages], tools=tools or None)
    form = _detect_content_format(tokenizer.chat_template, default="string")
    parsed = [part for sent in request.messages for part in _parse_chat_message_content(sent, _Tracker(), form, False)]
    _postprocess_messages(parsed)
    shown = [tool.model_dump() for tool in request.tools] if request.tools else None
    tokens: list[int] = tokenizer.apply_chat_template(
        parsed, tools=shown, add_generation_prompt=True, return_dict=False
    )
    return tokens


def _sent(message: Message) -> Message:
    return {name: value for name, value in message.items() if name != "weight"}


class _Tracker:
    """Follows images and sound in vLLM; there are none here."""

    model_config = SimpleNamespace(enable_prompt_embeds=False)

    def create_parser(self, **_: object) -> SimpleNamespace:
        return SimpleNamespace(mm_placeholder_storage=dict, model_config=self.model_config)


def _tokenizer(template: str) -> Any:
    """A token for each byte, and one for each end of a turn."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bytewise,
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=[end for end in ENDS if end != "</s>"],
        chat_template=template,
    )


def _line(first: str, cells: Sequence[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |\n"


if __name__ == "__main__":
    main()
