"""The labelled corpus of pairs of conversations: near copies, contradictions, and lessons of their own, in sixteen languages.

`python -m tests.support.corpora.likeness [seed …]` prints recall and precision per language and per kind.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from services.harvester.policy import LikenessPolicy
from services.harvester.scan.compare import Likeness, compare
from services.harvester.scan.lesson import read_lesson
from tests.support.corpora.languages import LANGUAGES, Language

NEAR, CONTRADICTING, APART = Likeness
PER_KIND = 4
CODE = (
    ("if a > b: swap(a, b)", "if a < b: swap(a, b)"), ("rows[0]", "rows[1]"), ("x == y", "x != y"), ("get_row(id)", "get_rows(id)"),
    ("return True", "return False"), ("if a:\n    b()\nc()", "if a:\n    b()\n    c()"), ("n += 1", "n -= 1"), ("git add -A", "git add -a"),
    ("a and b", "a or b"), ("Path(name)", "path(name)"), ("kubectl get pods", "kubectl delete pods"), ("x = [1, 2]", "x = (1, 2)"),
)  # fmt: skip
IN_PROSE = (
    ("a > b", "a < b"), ("x <= 3", "x >= 3"), ("x + y", "x - y"), ("p != q", "p == q"), ("5 %", "5 €"), ("-5", "5"),
    ("main.rs", "cart.rs"), ("--force", "--dry-run"), ("/etc/hosts", "/etc/passwd"), ("user_id", "user_name"),
    ("10:30", "11:30"), ("v1.2", "v1.3"),
)  # fmt: skip
COMMANDS = ("pytest -q", "npm test", "cargo test", "go test ./...", "make check", "ls -la", "cat a.txt", "rm b.txt")


class Case(NamedTuple):
    """Two conversations and how they are related."""

    language: str
    kind: str
    one: list[dict[str, Any]]
    other: list[dict[str, Any]]
    likeness: Likeness


@dataclass
class Measured:
    """How often pairs of each group (a language or a kind) were given, found and found wrongly, by likeness."""

    given: Counter[tuple[str, Likeness]] = field(default_factory=Counter)
    found: Counter[tuple[str, Likeness]] = field(default_factory=Counter)
    wrong: Counter[tuple[str, Likeness]] = field(default_factory=Counter)
    mistaken: list[tuple[Case, Likeness]] = field(default_factory=list)

    def recall(self, group: str, likeness: Likeness) -> float:
        return self.found[group, likeness] / (self.given[group, likeness] or 1)

    def precision(self, group: str, likeness: Likeness) -> float:
        found = self.found[group, likeness]
        return found / (found + self.wrong[group, likeness] or 1)


def cases(seed: int) -> Iterator[Case]:
    random = Random(seed)
    for name, language in LANGUAGES.items():
        for kind, (likeness, make) in KINDS.items():
            for _ in range(PER_KIND):
                yield Case(name, kind, *make(language, random), likeness)


def measure(seeds: Iterable[int], least: float = LikenessPolicy().jaccard) -> Measured:
    measured = Measured()
    for case in (case for seed in seeds for case in cases(seed)):
        one, other = read_lesson(case.one), read_lesson(case.other)
        found = compare(one, other, least) if set(one.bands()) & set(other.bands()) else APART
        for group in (case.language, case.kind):
            measured.given[group, case.likeness] += 1
            (measured.found if found is case.likeness else measured.wrong)[group, found] += 1
        if found is not case.likeness:
            measured.mistaken.append((case, found))
    return measured


def table(measured: Measured) -> str:
    lines = [f"{'':32}{'near: recall':>14}{'precision':>11}{'contradiction: recall':>23}{'precision':>11}"]
    for group in LANGUAGES:
        row = [f(group, likeness) for likeness in (NEAR, CONTRADICTING) for f in (measured.recall, measured.precision)]
        lines.append(f"{group:32}{row[0]:14.3f}{row[1]:11.3f}{row[2]:23.3f}{row[3]:11.3f}")
    for kind, (likeness, _) in KINDS.items():
        given = measured.given[kind, likeness]
        lines.append(f"{kind:48}{likeness:>14}: {measured.found[kind, likeness]} of {given}")
    return "\n".join(lines)


Talk = list[dict[str, Any]]
Make = Callable[[Language, Random], tuple[Talk, Talk]]


def chat(question: str, answer: str) -> Talk:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def long_answer(language: Language, random: Random, number: int = 0) -> str:
    text = " ".join(random.sample(language.sentences, len(language.sentences)))
    return text.replace("{n}", str(number or random.randint(2, 99)))


def _edited(edit: Callable[[str, Language, Random], str], *, long: bool) -> Make:
    def make(language: Language, random: Random) -> tuple[Talk, Talk]:
        answer = long_answer(language, random) if long else random.choice((language.yes, language.no, *language.word))
        return chat(language.question, answer), chat(language.question, edit(answer, language, random))

    return make


def _spaced(text: str, _: Language, random: Random) -> str:
    return random.choice((text.upper, text.lower, lambda: text.replace(" ", "\n"), lambda: f"  {text} \n"))()


def _punctuated(text: str, _: Language, random: Random) -> str:
    stripped = text.rstrip(".।。")
    return random.choice((stripped, f"{stripped}!", f"„{stripped}“", text.replace(",", " –").replace("、", "，")))


def _polite(text: str, language: Language, _: Random) -> str:
    return language.opening + text


def _renamed(text: str, language: Language, _: Random) -> str:
    return text.replace(*language.same)


def _negated(text: str, language: Language, _: Random) -> str:
    return text.replace(*language.negated)


def _number(text: str, _: Language, random: Random) -> str:
    digits = "".join(filter(str.isdigit, text))
    return text.replace(digits, str(int(digits) + random.randint(1, 9)))


def _opposite(language: Language, random: Random) -> tuple[Talk, Talk]:
    answers = random.choice(((language.yes, language.no), (language.no, language.yes), language.negated))
    return chat(language.question, answers[0]), chat(language.question, answers[1])


def _numbers(language: Language, random: Random) -> tuple[Talk, Talk]:
    sentence = next(one for one in language.sentences if "{n}" in one)
    numbers = random.sample(range(2, 99), 2)
    one, other = (sentence.replace("{n}", str(number)) for number in numbers)
    return chat(language.question, one), chat(language.question, other)


def _in_prose(language: Language, random: Random) -> tuple[Talk, Talk]:
    one, other = random.sample(random.choice(IN_PROSE), 2)
    frame = random.choice(language.word).rstrip(".।。")
    return chat(language.question, f"{frame}: {one}"), chat(language.question, f"{frame}: {other}")


def _in_code(language: Language, random: Random) -> tuple[Talk, Talk]:
    one, other = (f"{language.sentences[0]}\n```\n{code}\n```" for code in random.sample(random.choice(CODE), 2))
    return chat(language.question, one), chat(language.question, other)


def _other_word(language: Language, random: Random) -> tuple[Talk, Talk]:
    one, other = random.sample(language.word, 2)
    return chat(language.question, one), chat(language.question, other)


def _other_answer(language: Language, random: Random) -> tuple[Talk, Talk]:
    one, other = random.sample([sentence for sentence in language.sentences if "{n}" not in sentence], 2)
    return chat(language.question, one), chat(language.question, other)


def _other_question(language: Language, random: Random) -> tuple[Talk, Talk]:
    answer = random.choice((language.yes, long_answer(language, random)))
    return chat(language.question, answer), chat(language.other_question, answer)


def _other_number_asked(language: Language, random: Random) -> tuple[Talk, Talk]:
    one, other = random.sample(range(2, 99), 2)
    return chat(f"{language.question} {one}", language.yes), chat(f"{language.question} {other}", language.yes)


def _one_document(language: Language, random: Random) -> tuple[Talk, Talk]:
    document = " ".join(long_answer(language, random) for _ in range(6))
    one, other = random.sample([sentence for sentence in language.sentences if "{n}" not in sentence], 2)
    return chat(f"{document} {language.question}", one), chat(f"{document} {language.other_question}", other)


def _other_calls(language: Language, random: Random) -> tuple[Talk, Talk]:
    one, other = (_agent(language, command, language.sentences[0]) for command in random.sample(COMMANDS, 2))
    return one, other


def _other_result(language: Language, random: Random) -> tuple[Talk, Talk]:
    command = random.choice(COMMANDS)
    one, other = (_agent(language, command, result) for result in random.sample(language.sentences, 2))
    return one, other


def _agent(language: Language, command: str, result: str) -> Talk:
    call = {"id": "c", "type": "function", "function": {"name": "sh", "arguments": json.dumps({"cmd": command})}}
    return [
        {"role": "user", "content": language.question},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": result},
        {"role": "assistant", "content": language.yes},
    ]


KINDS: dict[str, tuple[Likeness, Make]] = {
    "white space or case, short": (NEAR, _edited(_spaced, long=False)),
    "white space or case, long": (NEAR, _edited(_spaced, long=True)),
    "punctuation, short": (NEAR, _edited(_punctuated, long=False)),
    "punctuation, long": (NEAR, _edited(_punctuated, long=True)),
    "an opening, short": (NEAR, _edited(_polite, long=False)),
    "an opening, long": (NEAR, _edited(_polite, long=True)),
    "a word of the same meaning, long": (NEAR, _edited(_renamed, long=True)),
    "yes and no, or a negation, short": (CONTRADICTING, _opposite),
    "a negation, long": (CONTRADICTING, _edited(_negated, long=True)),
    "a number, short": (CONTRADICTING, _numbers),
    "a number, long": (CONTRADICTING, _edited(_number, long=True)),
    "an operator, a path, an identifier, a time": (CONTRADICTING, _in_prose),
    "code": (CONTRADICTING, _in_code),
    "one word, short": (APART, _other_word),
    "another valid answer": (APART, _other_answer),
    "the same answer to another question": (APART, _other_question),
    "the same answer to another number": (APART, _other_number_asked),
    "another question about one document": (APART, _one_document),
    "the same words with other calls": (APART, _other_calls),
    "the same words with another result": (APART, _other_result),
}


def main() -> None:
    measured = measure([int(word) for word in sys.argv[1:]] or [6, 7, 8])
    for case, found in measured.mistaken[:40]:
        print(f"{case.language} {case.kind}: {found}, not {case.likeness}\n  {case.one[-1]}\n  {case.other[-1]}")
    print(table(measured))


if __name__ == "__main__":
    main()
