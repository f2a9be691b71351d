"""What may be decided about a persona's versions, and what its aliases are after that."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

import pytest
from pydantic import ValidationError

from services.registry.policy import (
    Aliases,
    Fate,
    Standing,
    choose_fate,
    find_refusal,
    pinned,
    promoted,
    rolled_back,
    withdrawn,
)
from shared.contracts.registry import Action, AdapterDecide
from shared.contracts.verify import Champion, ChampionEvidence, Rank

ALIASES = Aliases("scribe", champion="scribe@2", previous="scribe@1")
NEW = Standing("scribe@3", "scribe", loaded=True)
CHAMPION = Standing("scribe@2", "scribe", loaded=True)
ASKED = Champion(version="scribe@2", adapter="sha256:2")
AS_GOOD = ChampionEvidence(rank=Rank.NON_INFERIOR, reason="It is non-inferior.", champion=ASKED)
WORSE = ChampionEvidence(rank=Rank.INFERIOR, reason="It is inferior to scribe@2.", champion=ASKED)
ALONE = ChampionEvidence(rank=Rank.FIRST, reason="There is no champion.")
WAITING = ALIASES.with_candidate("scribe@3", uuid4(), datetime.now(UTC))


def asked(action: Action, version: str | None = "scribe@3", champion: str | None = "scribe@2") -> AdapterDecide:
    return AdapterDecide(action=action, persona="scribe", version=version, champion=champion, by="me")


def test_a_version_that_passed_is_promoted_by_itself_or_waits_for_its_owner_as_the_policy_is() -> None:
    assert choose_fate("automatic", ALIASES, NEW, AS_GOOD, CHAMPION)[0] is Fate.PROMOTE
    assert choose_fate("approval", ALIASES, NEW, AS_GOOD, CHAMPION)[0] is Fate.PROPOSE
    assert choose_fate("automatic", Aliases("scribe"), NEW, ALONE, None)[0] is Fate.PROMOTE


def test_a_version_that_is_worse_than_the_champion_is_a_candidate_and_says_why() -> None:
    assert choose_fate("automatic", ALIASES, NEW, WORSE, CHAMPION) == (
        Fate.KEEP_AS_CANDIDATE,
        "It is inferior to scribe@2.",
    )
    assert choose_fate("approval", ALIASES, NEW, WORSE, CHAMPION)[0] is Fate.PROPOSE
    assert (
        choose_fate("automatic", ALIASES, NEW, WORSE, replace(CHAMPION, fault="it cannot be loaded"))[0] is Fate.PROMOTE
    )


@pytest.mark.parametrize("serves", [True, False])
def test_a_version_is_not_promoted_over_a_champion_that_it_was_not_compared_with(serves: bool) -> None:
    met = ASKED if not serves else ASKED.model_copy(update={"version": "scribe@1"})
    then = AS_GOOD.model_copy(update={"champion": met.model_copy(update={"serves": serves})})
    for compared in (then, ALONE):
        fate, why = choose_fate("automatic", ALIASES, NEW, compared, CHAMPION)
        assert fate is Fate.KEEP_AS_CANDIDATE and "it was not compared with scribe@2" in why


@pytest.mark.parametrize("held", ["pin", "roll_back"])
def test_a_pin_or_a_roll_back_leaves_a_version_that_passed_a_candidate(held: str) -> None:
    fate, why = choose_fate("automatic", replace(ALIASES, held=held), NEW, AS_GOOD, CHAMPION)  # type: ignore[arg-type]

    assert fate is Fate.KEEP_AS_CANDIDATE and "scribe@2: it is a candidate until that is lifted" in why


@pytest.mark.parametrize("promotion", ["automatic", "approval"])
@pytest.mark.parametrize("fault", [{"withdrawn": "it is wrong"}, {"overridden": True}])
def test_a_withdrawn_or_banished_digest_is_kept_whatever_the_policy(promotion: str, fault: dict[str, object]) -> None:
    assert choose_fate(promotion, ALIASES, replace(NEW, **fault), AS_GOOD, CHAMPION)[0] is Fate.KEEP  # type: ignore[arg-type]


def test_a_rolled_back_version_is_not_promoted_by_itself_and_its_owner_may_approve_of_it() -> None:
    again = replace(NEW, set_aside=True)

    assert choose_fate("automatic", ALIASES, again, AS_GOOD, CHAMPION)[0] is Fate.KEEP
    assert choose_fate("approval", ALIASES, again, AS_GOOD, CHAMPION)[0] is Fate.PROPOSE
    assert find_refusal(asked(Action.PROMOTE), ALIASES, again, None) is None


def test_the_champion_that_is_made_again_stays_the_champion() -> None:
    again = Standing("scribe@2", "scribe")

    assert choose_fate("approval", replace(ALIASES, held="pin"), again, AS_GOOD, CHAMPION)[0] is Fate.PROMOTE
    assert promoted(ALIASES, "scribe@2") == ALIASES


@pytest.mark.parametrize(
    ("decision", "now", "standing", "reason"),
    [
        (asked(Action.PROMOTE, champion="scribe@1"), ALIASES, NEW, "the champion of scribe is scribe@2 by now"),
        (asked(Action.PROMOTE, champion=None), ALIASES, NEW, "by now, not None"),
        (asked(Action.PROMOTE), ALIASES, replace(NEW, persona="coder"), "is a version of coder"),
        (
            asked(Action.PROMOTE),
            ALIASES,
            replace(NEW, withdrawn="it is wrong"),
            "was withdrawn (it is wrong): only an override",
        ),
        (
            asked(Action.PROMOTE),
            ALIASES,
            replace(NEW, overridden=True),
            "was banished or withdrawn before: only an override",
        ),
        (asked(Action.PROMOTE), ALIASES, replace(NEW, recalled=True), "is not acted on yet"),
        (asked(Action.PROMOTE), replace(ALIASES, held="pin"), NEW, "is pinned to scribe@2: unpin it first"),
        (
            asked(Action.PROMOTE, "scribe@2"),
            ALIASES,
            replace(NEW, name="scribe@2"),
            "is the champion of scribe already",
        ),
        (asked(Action.REJECT), ALIASES, NEW, "is no candidate"),
        (asked(Action.ROLL_BACK, None), replace(ALIASES, previous=None), None, "has no version before"),
        (asked(Action.PIN, "scribe@1"), ALIASES, replace(NEW, name="scribe@1"), "is not the champion"),
        (asked(Action.PIN, None, None), Aliases("scribe"), None, "has no champion"),
        (asked(Action.UNPIN, None), ALIASES, None, "neither pinned nor rolled back"),
    ],
)
def test_what_cannot_be_decided_is_refused_with_the_reason(
    decision: AdapterDecide, now: Aliases, standing: Standing | None, reason: str
) -> None:
    assert reason in (find_refusal(decision, now, standing, None) or "")


@pytest.mark.parametrize("lack", [{"withdrawn": "it is wrong"}, {"fault": "its bundle is damaged"}])
def test_nothing_is_rolled_back_to_a_version_that_cannot_serve(lack: dict[str, object]) -> None:
    before = replace(Standing("scribe@1", "scribe"), **lack)  # type: ignore[arg-type]

    assert "scribe@1 cannot serve" in (find_refusal(asked(Action.ROLL_BACK, None), ALIASES, None, before) or "")


def test_a_banished_version_that_was_promoted_by_an_override_is_rolled_back_to() -> None:
    before = Standing("scribe@1", "scribe", overridden=True)

    assert find_refusal(asked(Action.ROLL_BACK, None), ALIASES, None, before) is None


def test_an_override_promotes_what_is_barred_and_needs_a_reason() -> None:
    override = asked(Action.PROMOTE).model_copy(update={"override": True, "why": "measured again by hand"})

    assert find_refusal(override, ALIASES, replace(NEW, withdrawn="it is wrong"), None) is None
    with pytest.raises(ValidationError, match="needs a reason"):
        AdapterDecide.model_validate({**override.model_dump(), "why": ""})
    with pytest.raises(ValidationError, match="promote needs the version"):
        AdapterDecide.model_validate({**override.model_dump(), "version": None})


@pytest.mark.parametrize("withdrawn", ["an evaluation banished its adapter", None])
@pytest.mark.parametrize("held", ["pin", None])
def test_only_an_override_promotes_the_champion_which_answers_again_after_it(
    withdrawn: str | None, held: Literal["pin"] | None
) -> None:
    now, champion = replace(ALIASES, held=held), Standing("scribe@2", "scribe", withdrawn=withdrawn)
    override = asked(Action.PROMOTE, "scribe@2").model_copy(update={"override": True, "why": "it is needed"})

    assert find_refusal(override, now, champion, None) is None
    assert find_refusal(asked(Action.PROMOTE, "scribe@2"), now, champion, None)
    assert promoted(now, "scribe@2", champion_serves=False) == now


def test_a_promotion_makes_the_champion_the_previous_version_and_ends_the_candidacy() -> None:
    assert promoted(WAITING, "scribe@3") == Aliases("scribe", champion="scribe@3", previous="scribe@2")
    assert promoted(WAITING, "scribe@1") == replace(WAITING, champion="scribe@1", previous="scribe@2")
    assert promoted(replace(ALIASES, held="roll_back"), "scribe@3").held is None
    assert promoted(Aliases("scribe"), "scribe@3") == Aliases("scribe", champion="scribe@3")


def test_a_champion_that_cannot_serve_takes_no_place_of_a_whole_version_before() -> None:
    assert promoted(ALIASES, "scribe@3", champion_serves=False).previous == "scribe@1"


def test_a_roll_back_holds_and_is_not_rolled_back_itself() -> None:
    assert rolled_back(ALIASES) == Aliases("scribe", champion="scribe@1", held="roll_back")


def test_a_pin_ends_an_approval_that_was_given_before_it() -> None:
    assert pinned(replace(WAITING, approved=7)) == replace(WAITING, held="pin")


def test_a_withdrawn_version_has_no_alias_any_more() -> None:
    assert withdrawn(replace(ALIASES, held="pin"), "scribe@2", True) == Aliases("scribe", champion="scribe@1")
    assert withdrawn(ALIASES, "scribe@2", False) == Aliases("scribe")
    assert withdrawn(ALIASES, "scribe@1", True) == Aliases("scribe", champion="scribe@2")
    assert withdrawn(WAITING, "scribe@3", True) == ALIASES
    assert withdrawn(ALIASES, "scribe@0", True) == ALIASES
