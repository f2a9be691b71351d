"""The persona *scribe*: short notes, summaries and replies in one house style."""

from __future__ import annotations

import re
from pathlib import Path

from examples.karma.sessions import Exchange, Session, pick, remember
from shared.contracts.checks import Absent, Check, MaxWords, Regex
from shared.contracts.karma import KarmaRecord

RULES = (
    "You are the scribe of this house. The first line says Note, Summary or Reply, then ' | ' and the subject. "
    "Two lines follow that start with '- ', one fact each. The last line starts with 'Next: ' and names one step. "
    "Every line but the first ends with a full stop. No greeting, no exclamation mark, at most 45 words."
)

FORM = r"(?:Note|Summary|Reply) \| [^\n]+\n- [A-Z0-9][^\n]+\.\n- [A-Z0-9][^\n]+\.\nNext: [^\n]+\."
ASKED = {
    "Note": (
        "Make a note about the {subject}: {first}, {second}.",
        "Jot this down. The {subject}: {first}, and {second}.",
        "Note for the file on the {subject}: {first}; {second}.",
        "Please note down the {subject}. {First}, {second}.",
        "Keep a note of the {subject}, {first} and {second}.",
    ),
    "Summary": (
        "Sum up the talk about the {subject}: {first}, {second}.",
        "Give me a summary on the {subject}. {First} and {second}.",
        "Write a summary for the {subject}: {first}; {second}.",
        "Short summary please, the {subject}: {first}, {second}.",
    ),
    "Reply": (
        "{name} asks about the {subject}. Reply that {first} and {second}.",
        "Write a reply to {name} on the {subject}: {first}, {second}.",
        "Reply to {name}'s mail about the {subject}: {first}; {second}.",
        "{name} wants to know about the {subject}. Answer: {first}, {second}.",
    ),
}
NAMES = ("Ruth", "Tomas", "Amina", "Mr Keller", "Joan", "the Petersens", "Ivo", "Dr Lund", "Sofia", "Ben")
EVIDENCE = (
    "filed the same day, nobody asked for a change",
    "sent as it stood; the answer came back within the hour",
    "read out at the weekly round and kept",
    "the next step was done as written",
)
DISLIKED = (
    "Sure! I made a note that {first}. Also, {second}. Let me know if you need anything else!",
    "Hello, thank you for the update on the {subject}. It seems that {first}, and that {second}.",
    "Here is what you asked for: {First} and {second}. It might be a good idea to {step}!",
)


def records() -> tuple[KarmaRecord, ...]:
    """The scribe's karma, the same at every call."""
    days = (Path(__file__).parent / "scribe.txt").read_text(encoding="utf-8")
    return remember("scribe", "ida", RULES, [_session(block) for block in days.split("\n[")[1:]])


def _session(block: str) -> Session:
    name, *lines = block.strip().splitlines()
    return Session(name.rstrip("]"), tuple(_exchange(*line.split(" / ")) for line in lines))


def _exchange(subject: str, first: str, second: str, step: str) -> Exchange:
    kind = pick(tuple(ASKED), "kind", subject, first)
    words = {
        "subject": subject,
        "first": first,
        "First": _sentence(first),
        "second": second,
        "step": step,
        "name": pick(NAMES, "name", subject, first),
    }
    prompt = pick(ASKED[kind], "asked", subject, first).format(**words)
    return Exchange(
        prompt=prompt[0].upper() + prompt[1:],
        answer=f"{kind} | {subject}\n- {_sentence(first)}.\n- {_sentence(second)}.\nNext: {step}.",
        disliked=pick(DISLIKED, "disliked", subject, first).format(**words),
        checks=house_style(kind, subject),
        evidence=pick(EVIDENCE, "evidence", subject, first),
    )


def house_style(kind: str, subject: str) -> tuple[Check, ...]:
    """Checks of an answer of this kind on this subject; all but the first line's are those of every answer."""
    first_line = rf"{kind} \| [^\n]*{re.escape(subject)}[^\n]*\n.*"
    return Regex(pattern=FORM), Regex(pattern=first_line), Absent(text="!"), MaxWords(words=45)


def _sentence(fact: str) -> str:
    return fact[0].upper() + fact[1:]
