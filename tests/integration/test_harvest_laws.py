"""Laws of the harvest, on histories that Hypothesis makes up: nothing seen is unaccounted for, nothing sealed is trained."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.harvester.manifest.compile import Compiled
from shared.contracts.karma import KarmaRecord
from shared.storage.postgres import Pool
from tests.support.harvests import harvested, open_rows, reasons, record, remember, sealed_rows

TEXTS = ("Close the door.", "Open the gate.", "Sweep the yard and tell me when it is done.", "Rest now.", "Sing.")
EMPTY = "DELETE FROM vectors.karma; TRUNCATE sealed, revocation, exclusion"


@st.composite
def histories(draw: st.DrawFn) -> list[list[KarmaRecord]]:
    """Batches of karma as they come: sessions go on, corrections join them, texts repeat, times are mixed."""
    batches: list[list[KarmaRecord]] = []
    ids: list[str] = []
    for _ in range(draw(st.integers(2, 3))):
        batch = []
        for _ in range(draw(st.integers(1, 25))):
            id = f"r{len(ids)}"
            batch.append(
                record(
                    id,
                    f"s{draw(st.integers(0, 12))}",
                    draw(st.sampled_from(TEXTS)),
                    f"{draw(st.sampled_from(TEXTS))} {draw(st.integers(0, 30))}",
                    parent=draw(st.sampled_from([None, None, None, *ids])),
                    status=draw(st.sampled_from(["white_truth"] * 4 + ["speculative", "revoked"])),
                    feedback=draw(st.sampled_from([None, None, "up", "down"])),
                    created_at=f"2026-05-{draw(st.integers(1, 28)):02d}T00:00:00Z",
                )
            )
            ids.append(id)
        batches.append(batch)
    return batches


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(histories())
@example(
    [
        [record("r0", "s1", "Close the door.", "It is closed.", feedback="down")],
        [record("r1", "s0", "Close the door.", "It is closed.")],
    ]
)
@example(
    [
        [
            record("r0", "s1", "Close the door.", "It is closed."),
            record("r1", "s1", "Close the door.", "It is closed.", feedback="down"),
        ],
        [],
    ]
)
async def test_as_karma_grows_all_of_it_is_accounted_for_and_what_was_sealed_is_never_trained(
    pool: Pool, admin: Pool, batches: list[list[KarmaRecord]]
) -> None:
    await admin.execute(EMPTY)
    remembered: dict[str, KarmaRecord] = {}
    ever_sealed: set[str] = set()
    side_of: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for batch in batches:
            await remember(pool, batch)
            remembered |= {one.id: one for one in batch}

            found, missing = await harvested(pool, home)

            sides = _sides(home, found)
            _accounted_for(list(await reasons(pool)), sides, found, set(remembered))
            assert not ever_sealed & {id for id, side in sides.items() if side != "holdout"}
            assert all(side_of[id] == side for id, side in sides.items() if side == "holdout" and id in side_of)
            side_of |= {id: "holdout" for id, side in sides.items() if side == "holdout"}
            if missing is None:
                ever_sealed |= {id for id, side in sides.items() if side == "holdout"}
            _one_side_a_session(sides, remembered)


def _sides(home: Path, found: Compiled) -> dict[str, str]:
    sides = {row["id"]: "holdout" for row in sealed_rows(home, found)}
    for file in ("pairs", "dev_pairs", "labels", "dev", "train"):
        for row in open_rows(home, found, file):
            assert sides.get(row["id"]) != "holdout"
            sides[row["id"]] = file
    return sides


def _accounted_for(excluded: list[str], sides: dict[str, str], found: Compiled, remembered: set[str]) -> None:
    assert len(excluded) == len(set(excluded)) == sum(found.excluded.values())
    assert not set(excluded) & set(sides)
    assert set(excluded) | set(sides) == remembered
    assert found.seen == found.used + len(excluded) == len(remembered)


def _one_side_a_session(sides: dict[str, str], remembered: dict[str, KarmaRecord]) -> None:
    held = {remembered[id].session for id, side in sides.items() if side == "holdout"}
    assert not held & {remembered[id].session for id, side in sides.items() if side != "holdout"}
