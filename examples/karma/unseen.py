"""Prompts that are in no record: `make ritual` asks base and adapter for their answers."""

from __future__ import annotations

UNSEEN = {
    "scribe": (
        "Note about the bicycle shed: the lock is rusty and two bikes have no owner.",
        "Short summary please, the choir practice: the tenor was ill, the new hall is too warm.",
        "Reply to Mara about the ladder: it is lent until Friday, the top rung is loose.",
    ),
    "coder": (
        "Start a new branch tide-tables.",
        "Read captain out of ferry.json.",
        "Python function harbour_of_ships that lists the harbour of each.",
    ),
}
