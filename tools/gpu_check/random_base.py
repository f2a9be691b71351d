"""Make a base of random weights in a current shape: `python -m tools.gpu_check.random_base SHAPE FOLDER`, in a jobs environment.

Speed and memory need no trained weights. Its tokenizer has one token per byte, so that rows have the length they are given.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
BYTES = 256
CONTEXT = 4096
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen3 model, by the names of its configuration."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool


SHAPES = {
    "tiny": Shape(64, 128, 2, 4, 2, 16, 512, tie_word_embeddings=True),
    "0.6B": Shape(1024, 3072, 28, 16, 8, 128, 151936, tie_word_embeddings=True),  # Qwen3-0.6B
    "8B": Shape(4096, 12288, 36, 32, 8, 128, 151936, tie_word_embeddings=False),  # Qwen3-8B
}


def main(name: str, folder: Path) -> None:
    """Write the base, made on the GPU where there is one."""
    import torch  # seconds, which a caller that only reads SHAPES does not wait for
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_bytes(), eos_token=END, pad_token=PAD, additional_special_tokens=[START]
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    config = Qwen3Config(
        **asdict(SHAPES[name]),
        max_position_embeddings=CONTEXT,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        Qwen3ForCausalLM(config).save_pretrained(folder)


def _bytes() -> object:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, START, END)])
    return tokenizer


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
