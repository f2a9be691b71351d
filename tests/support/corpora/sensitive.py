"""The labelled corpus of sensitive texts, and how well the scanner does on it.

`python -m tests.support.corpora.sensitive [seed …]` prints recall and precision per class and kind of place, and how fast texts
are searched, the slowest among them; tests.support.corpora.published has what others wrote.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from shared.redaction.examine import examine
from shared.redaction.policy import RedactionPolicy
from shared.redaction.scanner import Scanner
from shared.redaction.sensitive import Sensitive
from tests.support.corpora import carriers
from tests.support.corpora.hard_negatives import hard_negatives
from tests.support.corpora.kinds import KINDS, fill
from tests.support.corpora.negatives import negatives
from tests.support.corpora.published import installed, report
from tests.support.corpora.shapes import SHAPES
from tests.support.corpora.values import NATIONAL, draw, national_phone
from tests.support.corpora.worst import measure_worst

PER_CLASS = 80
PER_KIND = 30
PER_SHAPE = 2
PER_NEGATIVE = 110


class Sample(NamedTuple):
    """A message, what was planted in it, and in which kind of place; without a kind, in any."""

    message: dict[str, Any]
    planted: Sensitive | None = None
    value: str = ""
    kind: str = ""


@dataclass
class Measured:
    """What was planted, found and found wrongly, per class."""

    planted: Counter[Sensitive] = field(default_factory=Counter)
    found: Counter[Sensitive] = field(default_factory=Counter)
    wrong: Counter[Sensitive] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    missed: list[Sample] = field(default_factory=list)
    mistaken: list[tuple[Sample, dict[Sensitive, int]]] = field(default_factory=list)

    def recall(self, *classes: Sensitive) -> float:
        classes = classes or tuple(Sensitive)
        return sum(self.found[c] for c in classes) / sum(self.planted[c] for c in classes)

    def precision(self, *classes: Sensitive) -> float:
        classes = classes or tuple(Sensitive)
        right = sum(self.found[c] for c in classes)
        return right / max(1, right + sum(self.wrong[c] for c in classes))


def samples(seed: int) -> Iterator[Sample]:
    """Every class in varied carriers, every kind of place, every shape of token, and the texts that only look alike."""
    random = Random(seed)
    for sensitive in Sensitive:
        for _ in range(PER_CLASS):
            yield _sample(random, sensitive)
    for name, kind in KINDS.items():
        for _ in range(PER_KIND):
            text, value = fill(kind, random)
            yield Sample(_message(random, text, ensure_ascii=False), kind.sensitive, value, name)
    for shape in SHAPES:
        for _ in range(PER_SHAPE):
            value = shape.draw(random)
            text = f"{shape.name}={value}" if shape.name else f"I ran it with {value} and it worked."
            yield Sample(_message(random, text), shape.sensitive, value, "shapes of tokens")
    for text in (*negatives(random, PER_NEGATIVE), *hard_negatives()):
        yield Sample(_message(random, text))


def _sample(random: Random, sensitive: Sensitive) -> Sample:
    value = draw(random, sensitive)
    carrier = random.choice(carriers.CARRIERS.get(sensitive, carriers.ANYWHERE))
    name = random.choice(carriers.NAMES.get(sensitive, carriers.PLAIN_NAMES))
    if sensitive is Sensitive.NATIONAL_ID:
        name = random.choice(list(NATIONAL))
        value = NATIONAL[name](random)
    if sensitive is Sensitive.PHONE and random.random() < 0.4:
        carrier, value = random.choice(carriers.CALLS), national_phone(random)
    if carrier.startswith("{"):  # the carrier is JSON, as arguments are
        value = value if "\n" not in value else value.replace("\n", "\\n")
    text = _filled(carrier, name, value)
    return Sample(_message(random, text), sensitive, value.replace("\\n", "\n") if carrier.startswith("{") else value)


def _filled(carrier: str, name: str, value: str) -> str:
    """The carrier with name and value in place; `@@` is the value and the sign that ends user information in a URL."""
    marked = carrier.replace("@@", "\0@").replace("@", "\0") if "@@" not in carrier else carrier.replace("@@", "\0\1")
    return marked.replace("#", name).replace("\0", value).replace("\1", "@")


def _message(random: Random, text: str, ensure_ascii: bool = True) -> dict[str, Any]:
    """A text as an answer, as the result of a tool, or inside the arguments of a call."""
    form = random.random()
    if text.startswith("{") and form < 0.6:
        return _call(text)
    if form < 0.2:
        return _call(json.dumps({"path": "notes.txt", "body": text}, ensure_ascii=ensure_ascii))
    return {"role": "tool" if form < 0.4 else "assistant", "content": text}


def _call(arguments: str) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "write", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def measure(scanner: Scanner, seeds: Iterable[int]) -> Measured:
    """Found is what is named rightly and gone; all else that is reported is wrong."""
    measured = Measured()
    for sample in (sample for seed in seeds for sample in samples(seed)):
        result = examine(sample.message, scanner)
        wrong = Counter(result.found)
        if sample.planted is not None:
            measured.planted[sample.planted] += 1
            measured.kinds[sample.kind] += 1
            if wrong[sample.planted] and not _contains(result.values, sample.value):
                measured.found[sample.planted] += 1
            else:
                measured.missed.append(sample)
            wrong.subtract({sample.planted: min(1, wrong[sample.planted])})
        measured.wrong.update(+wrong)
        if +wrong:
            measured.mistaken.append((sample, dict(+wrong)))
    return measured


def _contains(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return text in value or json.dumps(text)[1:-1] in value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_contains(item, text) for item in items)


def table(measured: Measured) -> str:
    head = f"{'class':24}{'planted':>9}{'found':>8}{'recall':>9}{'wrong':>7}{'precision':>11}"
    rows = [_row(c, measured, c) for c in Sensitive]
    kinds = [
        f"{kind or 'any place':40}{planted:9}{_missed(measured, kind):8}" for kind, planted in measured.kinds.items()
    ]
    return "\n".join([head, *rows, _row("all", measured), "", f"{'kind':40}{'planted':>9}{'missed':>8}", *kinds])


def _missed(measured: Measured, kind: str) -> int:
    return sum(sample.kind == kind for sample in measured.missed)


def _row(name: str, measured: Measured, *classes: Sensitive) -> str:
    planted, found, wrong = (
        sum(c[k] for k in classes or Sensitive) for c in (measured.planted, measured.found, measured.wrong)
    )
    return f"{name:24}{planted:9}{found:8}{measured.recall(*classes):9.4f}{wrong:7}{measured.precision(*classes):11.4f}"


CLEAN = (
    "Summary | boiler\n- The service is due on 12 May.\n- Dan keeps the spare one.\nNext: book the fitter this week. "
    "Deploy the billing service to node 4, then run `pytest -q tests/unit` and look at src/app/main.py:120; it took 3.2 s. "
)


def speeds(scanner: Scanner, seed: int = 6) -> tuple[float, float, float]:
    """Processor time in µs: to pass by a clean text of 700 characters, to search a planted and a look-alike sample."""
    clean = (CLEAN * 4)[:700]
    mixed = [json.dumps(s.message) for s in samples(seed)]
    dirty, lookalike = mixed[: PER_CLASS * len(Sensitive)], mixed[PER_CLASS * len(Sensitive) :]
    assert not scanner.suspicious(clean)
    return (
        min(_us(scanner.suspicious, [clean] * 2000) for _ in range(5)),
        _us(scanner.clean, dirty),
        _us(scanner.clean, lookalike),
    )


def _us(do: Any, texts: list[str]) -> float:
    start = time.process_time()
    for text in texts:
        do(text)
    return (time.process_time() - start) / len(texts) * 1e6


def main(seeds: list[int]) -> None:
    scanner = Scanner(RedactionPolicy())
    print(table(measure(scanner, seeds)))
    clean, dirty, lookalike = speeds(scanner)
    print(
        f"\nclean text of 700 characters {clean:.1f} µs, planted sample {dirty:.0f} µs, look-alike {lookalike:.0f} µs"
    )
    print("\nslowest texts of a megabyte:")
    print("\n".join(f"{speed:8.2f} MB/s  {name!r}" for speed, name in measure_worst(scanner, 1_000_000)[:8]))
    print(f"\nnumbers that others published:\n{report(list(installed()), scanner, show=False)}")


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [6, 7, 8])
