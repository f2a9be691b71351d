"""A manifest without what the recipe's loss trains on is refused by the harvest, while inference goes on."""

from __future__ import annotations

from collections import Counter

import pytest

from services.harvester.manifest.compile import Compiled
from services.harvester.refusal import shortfall
from services.harvester.settings import HarvesterSettings
from shared.config.recipe import LossName


def compiled(pairs: int = 0, **signals: int) -> Compiled:
    rows = Counter({"train": 100, "dev": 9, "holdout": 30, "pairs": pairs})
    return Compiled("m", "h", 150, 139, 0, 9000, (300, 200), rows, {}, signals=Counter(signals))


@pytest.mark.parametrize(
    ("loss", "found", "needed"),
    [
        ("sft", compiled(), None),
        ("dpo", compiled(pairs=1), None),
        ("dpo", compiled(why=100, up=9, down=9), "corrections of answers"),
        ("kto", compiled(pairs=1), None),
        ("kto", compiled(up=1, down=1), None),
        ("kto", compiled(up=100), "answers that were disliked"),
        ("kto", compiled(down=100), "answers that were liked"),
        ("sdft", compiled(why=1), None),
        ("sdft", compiled(pairs=100), "state why they were chosen"),
    ],
)
def test_a_loss_is_refused_in_one_sentence_where_its_rows_are_missing(
    loss: LossName, found: Compiled, needed: str | None
) -> None:
    missing = shortfall(found, HarvesterSettings(), loss)

    if needed is None:
        assert missing is None
    else:
        assert missing and needed in missing and f'loss "{loss}"' in missing and "\n" not in missing
