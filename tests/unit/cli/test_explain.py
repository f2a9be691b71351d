"""What `soulforge karma explain` shows of a record."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from deploy.cli.console import SafeConsole
from deploy.cli.views.explain import explanation_view
from services.harvester.explain import Explanation

AT = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
RITUAL = UUID("6cb89406-0000-4000-8000-000000000000")
USED = {"side": "train", "tokens": 40, "found": {}}


def explanation(now: dict[str, Any] | None = None, **values: Any) -> Explanation:
    given = {
        "karma": "a", "persona": "scribe", "status": "white_truth", "created_at": AT, "consecrated_by": "ida",
        "revoked_at": None, "revoked_by": None, "session": "s", "source": "", "licence": "owner", "kind": "interaction",
        "feedback": None, "consented": True, "has_why": True, "has_evidence": False, "checks": 2, "golden_path": None,
        "parents": (), "circle": None, "corrections": (), "contradicts": (), "uses": (), "now": USED | (now or {}),
        "unembedded": 0, **values,
    }  # fmt: skip
    return Explanation.model_validate(given)


def shown(found: Explanation) -> list[str]:
    console = SafeConsole(file=io.StringIO(), width=140, record=True)
    console.print(explanation_view(found))
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def test_a_record_that_is_used_is_shown_with_all_that_decides_about_it() -> None:
    assert shown(explanation()) == [
        "karma a",
        "a harvest now used in train, about 40 tokens",
        "status scribe, white_truth, consecrated by ida",
        "consent given",
        "belongs to session s, source (none), licence owner, kind interaction",
        "states why it was chosen, no evidence, 2 checks",
        "past rituals none",
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"now": {"reason": "near_duplicate", "repeats": "b", "remedy": "set it"}}, "left out: near_duplicate, see b"),
        ({"now": {"reason": "licence", "remedy": "add theirs"}}, "what to do add theirs"),
        ({"now": {"reason": "superseded", "rejected_by": "b"}}, "left out: superseded; the rejected answer of b"),
        ({"now": {"found": {"email": 2}}}, "found in it email (2)"),
        ({"feedback": "down"}, "used in train, as a thumb down only, about 40 tokens"),
        ({"revoked_at": AT, "revoked_by": "ida"}, "revoked 2026-11-20 08:30 by ida"),
        ({"golden_path": {"read": False}}, "its trace was not read yet"),
        ({"golden_path": {"read": True, "problem": "a call lacks its result"}}, "its own messages are used: a call lacks"),
        ({"golden_path": {"read": True, "steps": 5, "pruned": 2}}, "in place of its own messages: 5 steps, 2 left out"),
        ({"circle": "a → b → a", "parents": ({"karma": "b"},)}, "circle a → b → a: a circle of records that are all"),
        ({"parents": ({"karma": "b", "status": "rejected"}, {"karma": "c"})}, "b (rejected) → c (not remembered)"),
        ({"corrections": ({"karma": "d", "status": "white_truth"},)}, "corrected by d (white_truth)"),
        ({"contradicts": ("x", "y")}, "contradicts x, y"),
        ({"unembedded": 7}, "7 records by meaning: a harvest embeds them first"),
        ({"uses": ({"ritual": RITUAL, "at": AT, "side": "dev"},)}, ": used in dev"),
        ({"uses": ({"ritual": RITUAL, "refines": RITUAL, "at": AT, "side": "dev"},)}, "6cb89406 (refines 6cb89406)"),
        ({"uses": ({"ritual": RITUAL, "at": AT, "reason": "duplicate", "repeats": "b"},)}, ": left out: duplicate, see b"),
        ({"uses": ({"ritual": RITUAL, "at": AT, "reason": "superseded", "side": "rejected"},)}, "the rejected answer of a pair"),
    ],
)  # fmt: skip
def test_what_decides_about_a_record_is_shown_in_words(values: dict[str, Any], expected: str) -> None:
    assert expected in " ".join(shown(explanation(**values)))
