"""The embedder's own process, in the environment with torch: JSON lines of texts in, float32 rows out.

Speaks first: one JSON line, `{"model": …, "dims": …}` or `{"error": …}`. Then for each line in, a JSON array of n
texts, n x dims little-endian float32 values in the order of the texts; zeros for a text that the model cannot read, as it
knows too little of its words. Ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from services.harvester.embedding.model import DIMS, MAX_PIECES, MODEL, folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

THREADS = 2
NICENESS = 10  # it must never compete with what serves
BATCH = 32
# The share of a text's letters in word pieces of two or more, or in ASCII. In what the model was not trained on its tokenizer
# falls back to single letters and to [UNK]: Latin texts and code have 0.9 or more, Cyrillic, Greek, Indic, Chinese ones 0.1.
READABLE = 0.75
UNKNOWN = "[UNK]"


def main() -> None:
    os.nice(NICENESS)
    answers = _own_stdout()
    try:
        embed = _load()
    except Exception as error:  # reported to the parent, whose message names the remedy
        _send(answers, {"error": f"{type(error).__name__}: {error}"[:500]})
        raise SystemExit(1) from None
    _send(answers, {"model": MODEL, "dims": DIMS})
    for line in sys.stdin.buffer:
        answers.write(embed(json.loads(line)))
        answers.flush()


def _own_stdout() -> BinaryIO:
    """The answers' channel; whatever a library prints goes to stderr instead."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _send(answers: BinaryIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value).encode() + b"\n")
    answers.flush()


def _load() -> Callable[[list[str]], bytes]:
    """The model, as a function from n texts to the bytes of n x DIMS float32 values."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(THREADS)
    place = folder()
    tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True)
    model = AutoModel.from_pretrained(place, local_files_only=True, dtype=torch.float32).eval()

    def batch(texts: list[str]) -> Any:
        pieces = tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=MAX_PIECES,
            return_tensors="pt",
            return_offsets_mapping=True,
        )
        spans = pieces.pop("offset_mapping")
        hidden = model(**pieces).last_hidden_state
        mask = pieces["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        names = map(tokenizer.convert_ids_to_tokens, pieces["input_ids"])
        lengths = (spans[:, :, 1] - spans[:, :, 0]).tolist()
        readable = [is_readable(list(zip(*one, strict=True))) for one in zip(names, lengths, strict=True)]
        return torch.nn.functional.normalize(mean, dim=1) * torch.tensor(readable).unsqueeze(-1)

    def embed(texts: list[str]) -> bytes:
        # Texts of like length go together: padding is computed like everything else.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        vectors = torch.empty(len(texts), DIMS, dtype=torch.float32)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                places = order[start : start + BATCH]
                vectors[places] = batch([texts[place] for place in places])
        return bytes(vectors.numpy().astype("<f4").tobytes())

    return embed


def is_readable(pieces: Sequence[tuple[str, int]]) -> bool:
    """Whether the tokenizer knows enough of a text, by its word pieces and their letters; without letters it does."""
    words = [(piece.removeprefix("##"), length) for piece, length in pieces if length]
    known = sum(length for word, length in words if word.isalpha() and (len(word) > 1 or word.isascii()))
    return known >= READABLE * sum(length for word, length in words if word == UNKNOWN or word.isalpha())


if __name__ == "__main__":
    main()
