"""What the pruner removes: nothing that anything needs, whatever the history; and all else that is old enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.prune.decide import Folder, History, Kind, decide, get_ages
from services.harvester.views import Manifest
from services.registry.views import KeptVersion
from shared.config.tables import PruneConfig
from shared.contracts.ritual import ENDS, State
from shared.ritual.views import Lineage

NOW = datetime(2026, 11, 20, tzinfo=UTC)
CONFIG = PruneConfig()
AGES = get_ages(CONFIG)
RITUALS = [UUID(int=number) for number in range(6)]
MANIFESTS = [f"{number:064x}" for number in range(4)]
HOLDOUTS = [f"{number:064x}" for number in range(8, 11)]
ADAPTERS = ["a", "b", "c"]
PERSONAS = ["scribe", "coder"]

days = st.integers(0, 200).map(lambda age: NOW - timedelta(days=age))


@st.composite
def histories(draw: st.DrawFn) -> History:
    holdout_of = {digest: draw(st.sampled_from(HOLDOUTS)) for digest in MANIFESTS}
    persona_of = {digest: draw(st.sampled_from(PERSONAS)) for digest in MANIFESTS}
    lineages = []
    for ritual in draw(st.sets(st.sampled_from(RITUALS))):
        ended_at = draw(st.none() | days)
        state = draw(st.sampled_from(sorted(ENDS if ended_at else set(State) - ENDS)))
        manifest = draw(st.none() | st.sampled_from(MANIFESTS))
        persona = persona_of[manifest] if manifest else "scribe"
        made = f"sha256:{manifest}" if manifest else None
        holdout = f"sha256:{holdout_of[manifest]}" if manifest else None
        harvested_at = draw(days) if manifest else None
        for adapter in draw(st.lists(st.none() | st.sampled_from(ADAPTERS), min_size=1, max_size=2)):
            lineages.append(Lineage(ritual, persona, state, ended_at, made, holdout, harvested_at, adapter))
    recorded = {str(line.manifest)[7:] for line in lineages if line.manifest} | draw(
        st.sets(st.sampled_from(MANIFESTS))
    )
    rows = [
        Manifest(f"sha256:{name}", persona_of[name], 1, 1, 1, draw(days), f"sha256:{holdout_of[name]}")
        for name in sorted(recorded)
    ]
    versions = st.builds(KeptVersion, st.just("v"), st.sampled_from(RITUALS), st.sampled_from(ADAPTERS))
    return History(
        now=NOW,
        lineages=tuple(lineages),
        manifests=tuple(rows),
        kept=tuple(draw(st.lists(versions, max_size=3))),
        whole=draw(st.frozensets(st.sampled_from(ADAPTERS))),
        lettered=draw(st.frozensets(st.sampled_from(RITUALS), max_size=2)),
    )


@st.composite
def folders(draw: st.DrawFn) -> list[Folder]:
    names = [(Kind.RUNS, str(ritual)) for ritual in RITUALS] + [(Kind.CHECKPOINTS, str(ritual)) for ritual in RITUALS]
    names += [(Kind.MANIFEST, name) for name in MANIFESTS] + [(Kind.HOLDOUT, name) for name in HOLDOUTS]
    return [Folder(kind, name, Path(kind, name), draw(days)) for kind, name in names]


def is_kept_whole(history: History, line: Lineage) -> tuple[bool, bool]:
    """Whether a kept version was made by the ritual of this line, and whether one of those has no whole bundle."""
    versions = [one for one in history.kept if line.ritual == one.ritual or line.adapter == one.adapter]
    return bool(versions), any(one.adapter not in history.whole for one in versions)


@settings(max_examples=250, deadline=None)
@given(history=histories(), listed=folders())
def test_nothing_that_anything_needs_is_removed(history: History, listed: list[Folder]) -> None:
    gone = {(folder.kind, folder.name) for folder in decide(listed, history, AGES)}

    for line in history.lineages:
        kept, damaged = is_kept_whole(history, line)
        is_open = line.ended_at is None or line.ritual in history.lettered
        if is_open or damaged:
            assert gone.isdisjoint({(Kind.RUNS, str(line.ritual)), (Kind.CHECKPOINTS, str(line.ritual))})
        if (is_open or kept) and line.manifest and line.holdout:
            assert gone.isdisjoint({(Kind.MANIFEST, line.manifest[7:]), (Kind.HOLDOUT, line.holdout[7:])})
    known = {str(line.ritual) for line in history.lineages}
    assert {name for kind, name in gone if kind in (Kind.RUNS, Kind.CHECKPOINTS)} <= known
    for persona in {row.persona for row in history.manifests}:
        rows = [row for row in history.manifests if row.persona == persona]
        assert any((Kind.HOLDOUT, row.holdout[7:]) not in gone for row in rows), "a persona lost its last holdout"
        assert any((Kind.MANIFEST, row.digest[7:]) not in gone for row in rows)


@settings(max_examples=250, deadline=None)
@given(history=histories(), listed=folders())
def test_nothing_goes_before_its_age(history: History, listed: list[Folder]) -> None:
    for folder in decide(listed, history, AGES):
        lines = [line for line in history.lineages if str(line.ritual) == folder.name]
        if folder.kind is Kind.CHECKPOINTS:
            assert all(line.ended_at and line.ended_at < NOW - AGES.checkpoints for line in lines)
        elif folder.kind is Kind.RUNS:
            longest = AGES.banished if lines[0].state is State.BANISHED else AGES.runs
            assert all(line.ended_at and line.ended_at < NOW - longest for line in lines)
        else:
            assert folder.changed_at < NOW - AGES.manifests


@settings(max_examples=250, deadline=None)
@given(history=histories(), listed=folders())
def test_all_that_is_not_needed_and_old_enough_is_removed(history: History, listed: list[Folder]) -> None:
    """Of a history without letters and open rituals, with whole bundles, only versions and personas need a manifest."""
    ended = [line if line.ended_at else Lineage(**{**vars(line), "ended_at": NOW}) for line in history.lineages]
    whole = frozenset(ADAPTERS)
    old = History(NOW + timedelta(days=365), tuple(ended), history.manifests, history.kept, whole)

    gone = {(folder.kind, folder.name) for folder in decide(listed, old, AGES)}

    assert {name for kind, name in gone if kind is Kind.RUNS} == {str(line.ritual) for line in ended}
    assert not [kind for kind, _ in gone if kind is Kind.CHECKPOINTS], "they go with their runs"
    stay = {line.manifest for line in ended if line.manifest and is_kept_whole(old, line)[0]}
    most = len(stay) + len({row.persona for row in history.manifests})
    assert len([name for kind, name in gone if kind is Kind.MANIFEST]) >= len(MANIFESTS) - most
    assert len([name for kind, name in gone if kind is Kind.HOLDOUT]) >= len(HOLDOUTS) - most


def test_the_checkpoints_of_an_ended_ritual_go_before_its_runs() -> None:
    ritual = RITUALS[0]
    listed = [Folder(kind, str(ritual), Path(kind), NOW) for kind in (Kind.RUNS, Kind.CHECKPOINTS)]
    two_days = NOW - timedelta(days=2)
    line = Lineage(ritual, "scribe", State.FAILED, two_days, None, None, None, None)

    assert [folder.kind for folder in decide(listed, History(NOW, (line,)), AGES)] == [Kind.CHECKPOINTS]


def test_one_age_can_be_given_for_everything() -> None:
    assert set(vars(get_ages(CONFIG, 3)).values()) == {timedelta(days=3)}
    assert get_ages(CONFIG).banished == timedelta(days=CONFIG.banished_days)


def test_an_adapter_that_two_rituals_made_keeps_the_manifests_of_both() -> None:
    long_ago = NOW - timedelta(days=400)
    pairs = list(zip(RITUALS[:2], MANIFESTS[:2], strict=True))
    lineages = [Lineage(one, "scribe", State.AWAKENED, long_ago, name, None, long_ago, "a") for one, name in pairs]
    kept = (KeptVersion("v", RITUALS[0], "a"),)
    listed = [Folder(Kind.MANIFEST, name, Path(name), long_ago) for name in MANIFESTS[:3]]

    gone = decide(listed, History(NOW, tuple(lineages), kept=kept, whole=frozenset("a")), AGES)

    assert [folder.name for folder in gone] == [MANIFESTS[2]]
