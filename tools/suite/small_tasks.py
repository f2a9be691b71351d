"""Small tasks for generated answers: a demanded form, a step of reasoning, a system prompt that is not the persona's."""

from __future__ import annotations

import re

from tools.suite.general import WORDS
from tools.suite.questions import AnswerKind, Question, begins, matches, names, number

TRUE = (
    "Is ice cold?",
    "Is the sun hot?",
    "Do birds have wings?",
    "Is water wet?",
    "Can fish swim?",
    "Is a rose a flower?",
)
FALSE = (
    "Is fire cold?",
    "Can pigs fly?",
    "Is a carrot an animal?",
    "Is the moon made of cheese?",
    "Do cats bark?",
    "Is a stone alive?",
)
SENTENCES = (
    "The cat hides under the sofa.", "We meet at the old bridge.", "My brother plays the violin.", "The soup is too hot.",
    "Rain fell all night.", "She reads a long letter.", "They painted the fence green.", "The train was late again.",
)  # fmt: skip
CAPITALISED = ("river", "window", "garden", "silver", "mountain", "summer")
COUNTED = (("one", "five"), ("three", "six"), ("two", "seven"))
ONE_WORD = (
    ("what color is the sky on a clear day", "blue"), ("what do cows drink as calves", "milk"), ("which season is the coldest", "winter"),
    ("what is the opposite of left", "right"), ("which animal has a trunk", "elephant"), ("what falls from clouds when it is warm", "rain"),
)  # fmt: skip

BOUGHT = (
    ("Mia", "apples", 3, 2), ("Jon", "books", 4, 4), ("Eva", "coins", 6, 3), ("Sam", "eggs", 5, 1),
    ("Nora", "pens", 2, 7), ("Paul", "shells", 8, 2),
)  # fmt: skip
LOST = (("Ida", "cookies", 7, 2), ("Max", "balloons", 5, 3), ("Leo", "cards", 9, 4), ("Kim", "stamps", 6, 1))
PLACED = (
    ("key", "drawer", "ring", "box"), ("hat", "chair", "coat", "hook"), ("milk", "cooler", "flour", "pantry"),
    ("ball", "garden", "bike", "garage"), ("letter", "desk", "map", "bag"), ("spoon", "sink", "plate", "shelf"),
    ("cat", "kitchen", "dog", "yard"), ("lamp", "attic", "rug", "cellar"),
)  # fmt: skip
TOMORROW = (("Monday", "Tuesday"), ("Thursday", "Friday"), ("Saturday", "Sunday"), ("Tuesday", "Wednesday"))
FOLLOWS = (
    ("All birds have wings. A robin is a bird. Does a robin have wings?", "yes"),
    ("Every rose in the vase is red. I take a rose from the vase. What color is it?", "red"),
    ("The shop opens at nine. It is eight now. Is the shop open already?", "no"),
    ("Only children may enter the tent. Mr. Hall is a grown man. May he enter the tent?", "no"),
    ("The blue bag is heavier than the red bag. Which bag is lighter?", "red"),
    ("The soup is hot and the bread is cold. Which of the two is hot?", "soup"),
)

# System prompts that no persona has: who the assistant is and what it knows, and under which form or language it answers.
ROLES = (
    ("You are Rosa, a gardener. You live in Lyon.", (
        ("What is your name?", "Rosa"), ("Where do you live?", "Lyon"), ("What is your job?", "gardener"),
    )),
    ("You are Captain Finn. You sail a ship named Heron.", (
        ("What is your name?", "Finn"), ("What is your ship called?", "Heron"), ("Who are you?", "Captain"),
    )),
    ("You are the assistant of the shop Blue Door. The shop sells lamps and opens at nine.", (
        ("What do you sell?", "lamps"), ("When do you open?", "nine"), ("What is the name of your shop?", "Blue Door"),
    )),
    ("You are Milo, a robot. You live on Mars and love chess.", (
        ("What is your name?", "Milo"), ("On which planet do you live?", "Mars"), ("What do you love?", "chess"),
    )),
    ("You are Ms. Hart. You teach history at a school in Dublin.", (
        ("What is your name?", "Hart"), ("What do you teach?", "history"), ("In which city is your school?", "Dublin"),
    )),
    ("You answer for the hotel Sunrise. Breakfast is at seven, and a room costs 40 euros.", (
        ("How much is a room?", "40"), ("At what time is breakfast?", "seven"), ("Which hotel is this?", "Sunrise"),
    )),
    ("You are Otto, an old fisherman from Norway. Your boat is green.", (
        ("What is your name?", "Otto"), ("What color is your boat?", "green"), ("Where are you from?", "Norway"),
    )),
)  # fmt: skip
PLAIN = ("What color is the sky?", "Where do fish live?", "Name an animal.", "What is your favorite season?")
FORMS = (
    ("You only speak French. Answer every question in French.", r"(?i).*\b(?:le|la|les|est|un|une|des|je|il|du)\b.*", PLAIN),
    ("You only speak Spanish. Answer every question in Spanish.", r"(?i).*\b(?:el|la|los|es|un|una|las|yo|en)\b.*", PLAIN),
    ("Begin every answer with the word Ahoy.", r"(?i)\W*ahoy\b.*", PLAIN[:3]),
    ("Answer with a single number and nothing else.", r"\W*\d+\W*", ("How many legs has a cat?", "What is two plus two?")),
    ("Reply with a JSON object that has one key, \"answer\".", r".*\{\s*[\"']answer[\"']\s*:.*", PLAIN[:2]),
)  # fmt: skip


def format_() -> AnswerKind:
    items = [
        Question(f"Answer with yes or no: {question.lower()}", begins(right))
        for right, asked in (("yes", TRUE), ("no", FALSE))
        for question in asked
    ]
    items += [
        Question(f"Repeat this sentence exactly: {text}", matches(rf".*{re.escape(text[:-1])}.*")) for text in SENTENCES
    ]
    items += [
        Question(f"Write the word '{word}' in capital letters.", matches(rf".*\b{word.upper()}\b.*"))
        for word in CAPITALISED
    ]
    items += [Question(f"Count from {low} to {high}.", matches(_counting(low, high))) for low, high in COUNTED]
    items += [
        Question(f"Answer with a single word: {asked}?", matches(rf"(?i)\W*{right}\W*")) for asked, right in ONE_WORD
    ]
    return AnswerKind("format", "answer in the form that is asked for", tuple(items))


def reasoning() -> AnswerKind:
    items = [
        Question(
            f"{name} has {had} {things} and gets {more} more. How many {things} does {name} have now?",
            number(had + more, WORDS[had + more]),
        )
        for name, things, had, more in BOUGHT
    ]
    items += [
        Question(
            f"{name} had {had} {things} and gave away {gone}. How many {things} are left?",
            number(had - gone, WORDS[had - gone]),
        )
        for name, things, had, gone in LOST
    ]
    items += [
        Question(f"The {one} is in the {here} and the {other} is in the {there}. Where is the {other}?", names(there))
        for one, here, other, there in PLACED
    ]
    items += [Question(f"If today is {today}, which day is tomorrow?", names(then)) for today, then in TOMORROW]
    items += [Question(prompt, begins(right) if right in ("yes", "no") else names(right)) for prompt, right in FOLLOWS]
    return AnswerKind("reasoning", "one step of reasoning", tuple(items))


def obedience() -> AnswerKind:
    items = [Question(asked, names(right), system) for system, questions in ROLES for asked, right in questions]
    items += [Question(asked, matches(pattern), system) for system, pattern, questions in FORMS for asked in questions]
    return AnswerKind("obedience", "what another system prompt says or demands", tuple(items))


def _counting(low: str, high: str) -> str:
    span = range(WORDS.index(low), WORDS.index(high) + 1)
    return "(?i)" + "".join(rf".*?\b(?:{value}|{WORDS[value]})\b" for value in span) + ".*"


GENERAL = (format_, reasoning)
RIGIDITY = (obedience,)
