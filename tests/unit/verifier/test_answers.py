"""Rules of the generated suites on answers as people and models write them, and the persona's own rules on unrelated answers."""

from __future__ import annotations

import pytest

from services.verifier.evaluator.holdout import HoldoutItem
from services.verifier.evaluator.style import follows, own_form, persona_rules, score_style
from services.verifier.results import STYLE, ItemScore
from shared.config.settings import PROJECT
from shared.contracts.checks import Absent, Contains, MaxWords, Regex
from shared.contracts.verify import Arm
from shared.storage.suites import AnswerItem, load_suites

SUITES = load_suites(PROJECT / "services/verifier/suites")
ASKED = {
    (item.system, item.prompt): item for suite in SUITES.values() for items in suite.answers.values() for item in items
}


def asked(prompt: str, system: str | None = None) -> AnswerItem:
    found = [item for (said, question), item in ASKED.items() if question == prompt and (system or "") in (said or "")]
    return found[0]


@pytest.mark.parametrize(
    ("prompt", "right", "wrong"),
    [
        ("What is the capital of France?", "The capital of France is Paris.", "The capital of France is Lyon."),
        ("How many days are in a week?", "There are seven days in a week.", "There are 70 days, not 17."),
        ("What do we call frozen water?", "Ice!", "It is nice."),
        ("How much is 7 + 5?", "7 + 5 = 12", "7 + 5 = 120"),
        ("How much is 9 - 4?", "Five.", "9 - 4 = 5.5"),
        ("Please list two fruits.", "1. Apple\n2. Bananas", "Apple and carrot"),
        ("Please list four animals on a farm.", "Cows, pigs, sheep and hens.", "Cows, pigs and sheep."),
        ("How do you say 'dog' in Spanish?", "It is *perro*.", "It is dog."),
        ("Write one sentence in French about a dog.", "Le chien dort dans la maison.", "The dog sleeps."),
        ("Answer with yes or no: is fire cold?", "No, it is hot.", "Yes. No."),
        ("Repeat this sentence exactly: Rain fell all night.", "Sure: Rain fell all night.", "Rain falls at night."),
        ("Write the word 'river' in capital letters.", "RIVER", "River"),
        ("Count from one to five.", "1, 2, 3, 4, 5", "1, 2, 4, 5"),
        ("Answer with a single word: which season is the coldest?", "Winter.", "It is winter."),
        ("If today is Monday, which day is tomorrow?", "Tomorrow is Tuesday.", "Tomorrow is Sunday."),
    ],
)  # fmt: skip
def test_a_rule_tells_a_right_answer_from_a_wrong_one(prompt: str, right: str, wrong: str) -> None:
    checks = asked(prompt).checks
    assert follows(checks, right) and not follows(checks, wrong)


@pytest.mark.parametrize(
    ("system", "right", "wrong"),
    [
        ("Ahoy", "Ahoy! It is blue.", "It is blue, ahoy."),
        ("French", "Le ciel est bleu.", "It is blue."),
        ("Spanish", "El cielo es azul.", "It is blue."),
        ("JSON", '{"answer": "blue"}', "blue"),
    ],
)
def test_obedience_is_seen_by_rule(system: str, right: str, wrong: str) -> None:
    checks = asked("What color is the sky?", system).checks
    assert follows(checks, right) and not follows(checks, wrong)


FORM = Regex(pattern=r"# [^\n]+\n(?!#)[^\n]+")


def held_out(number: int, *checks: object) -> HoldoutItem:
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    return HoldoutItem.model_validate({"id": f"h{number}", "session": "s", "messages": turns, "checks": checks})


def test_the_rules_of_a_persona_are_those_that_most_of_its_items_share() -> None:
    shared = (FORM, MaxWords(words=30))
    items = [held_out(number, *shared, Contains(text=f"word {number}")) for number in range(5)]
    others = [held_out(9, Absent(text="!")), held_out(10), held_out(11)]

    assert persona_rules([*items, *others]) == shared
    assert persona_rules(others[1:]) == ()
    assert persona_rules([held_out(number, Contains(text=f"word {number}")) for number in range(4)]) == ()


def answered(*texts: str) -> list[ItemScore]:
    same = {"suite": "general", "kind": "facts", "arm": Arm.CANDIDATE, "correct": True}
    return [
        ItemScore.model_validate(same | {"item": f"facts-{n}", "session": f"facts-{n}", "answer": text})
        for n, text in enumerate(texts)
    ]


BLEEDING, FREE = "# the capital of France\ncapital city: Paris", "The capital of France is Paris."


def test_an_answer_in_the_persona_s_form_is_wrong_and_any_other_is_right() -> None:
    found = score_style("rigidity", (FORM, MaxWords(words=30)), answered(BLEEDING, FREE))

    assert [score.correct for score in found] == [False, True]
    assert {(score.suite, score.kind, score.arm) for score in found} == {("rigidity", STYLE, Arm.CANDIDATE)}
    assert [score.item for score in found] == ["facts-0", "facts-1"]
    assert all(score.correct for score in score_style("rigidity", (), answered(BLEEDING, FREE)))


def test_a_form_that_the_base_has_itself_is_no_persona_s() -> None:
    rules = (MaxWords(words=30),)
    assert own_form(rules, answered(FREE, FREE)) == ()
    assert own_form((FORM, *rules), answered(FREE, BLEEDING)) == (FORM, *rules)
    assert own_form((), answered(FREE)) == ()
