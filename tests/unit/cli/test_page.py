"""The report of a ritual as files: what is in them, what is not, and that no text of others is markup there."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import pytest

from deploy.cli.commands.report import write_report
from deploy.cli.errors import UserError
from deploy.cli.queries.curve import Curve, read_curve
from deploy.cli.views.page.content import build_page, list_suites, recorded_curve
from deploy.cli.views.page.render import CARD, CURVE, PAGE, SUITES, render
from deploy.cli.views.report import build_report
from services.verifier.answers import list_general, list_sealed
from services.verifier.results import ItemScore
from shared.config.settings import PROJECT
from shared.contracts.job import PROGRESS_FILE, Progress
from shared.contracts.verify import Arm, Champion, ChampionEvidence, ContextPolicy, Loss, Policy, Rank
from shared.storage.artifacts import Artifacts
from shared.storage.suites import load_suites
from tests.support import pages
from tests.support.escapes import ALL, raw_controls
from tests.support.evaluations import INTACT, LEARNED, results
from tests.support.facts import TRAINING
from tests.unit.cli.rows import RITUAL, VERDICT, WHOLE, ritual, snapshot

HOSTILE = '<script src="http://h/x"></script><img src=http://h/i>|![i](http://h/j)$x$' + ALL


class Tags(HTMLParser):
    """Every tag of a page, with what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [
            str(value)[:22] for name, value in attrs if name in ("src", "href", "srcset", "action", "data")
        ]


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def test_the_page_shows_the_verdict_first_and_then_everything_that_it_rests_on() -> None:
    page = render(pages.whole_page())[PAGE]

    places = [
        page.index(f"<h2>{title}")
        for title in ("Evidence", "Context saved", "Flips", "Loss", "Memory", "Pilots", "Data", "Downtime", "Proven")
    ]
    assert places == sorted(places) and page.index("<strong>promote</strong>") < places[0]
    for shown in (
        "scribe@a", "target, by rules", "+78.4", "+67.5 to +89.2", "warning: plain", "<td class=\"n\">231</td>",
        "4.2 kJ", pages.GENERAL, pages.SEALED, "sha256:m", "2 models answer as before", "125 none",
        "<strong>61.5 tokens saved per request (60.2 to 62.8)</strong>", "context, base with prompt",
        '<tr><td>base</td><td class="n">0.0 % (63–89)</td><td class="n">24.3 % (63–89)</td></tr>',
        '<tr><td>candidate</td><td class="n">78.4 % (63–89)</td><td class="n">81.1 % (63–89)</td></tr>',
    ):  # fmt: skip
        assert shown in page, shown


def test_the_card_has_the_context_too_and_a_persona_without_a_prompt_has_none() -> None:
    files = render(pages.whole_page())
    assert "Without its system prompt: 61.5 tokens saved per request (60.2 to 62.8)" in files[CARD]
    assert "| candidate | 78.4 % (63–89) | 81.1 % (63–89) |" in files[CARD]
    plain = snapshot(ritual("awakened", 33, 33), WHOLE)
    files = render(build_page(plain, build_report(plain, {}, "http://p"), Curve(), None))
    assert "Context saved" not in files[PAGE] and "system prompt:" not in files[CARD]
    assert "left out, for no held-out item has a system prompt" in files[PAGE]


def test_no_text_of_others_is_markup_in_the_page_or_becomes_a_request() -> None:
    files = render(pages.whole_page(HOSTILE))

    found = parsed(files[PAGE])
    assert found.tags & {"script", "iframe", "link", "object", "a", "form"} == set()
    assert found.fetched == ["data:image/svg+xml;bas"] * 2
    assert "&lt;script src=" in files[PAGE] and "default-src &#39;none&#39;" not in files[PAGE]
    assert "default-src 'none'" in files[PAGE]
    assert {name: raw_controls(text) for name, text in files.items()} == {name: [] for name in files}


def test_no_text_of_others_is_markup_in_the_card() -> None:
    card = render(pages.whole_page(HOSTILE))[CARD]

    images = re.findall(r"(?<!\\)!\[[^]]*\]\(([^)]*)\)", card)
    assert images == [SUITES, CURVE]
    assert re.search(r"(?<!\\)<", card) is None
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3, 4, 9}, "no cell ends another"
    assert '\nmodel_name: "scribe@a"\n' in card


def test_a_ritual_without_a_verdict_has_a_page_too() -> None:
    refused = snapshot(ritual("intended", 0), [])
    files = render(build_page(refused, build_report(refused, {}, "http://p"), Curve(), None))

    assert files.keys() == {PAGE, CARD}
    assert "<strong>no verdict</strong>" in files[PAGE] and "<h2>Evidence" not in files[PAGE]


def test_the_same_ritual_gives_the_same_files() -> None:
    assert render(pages.whole_page()) == render(pages.whole_page())


def test_the_drawings_are_sound_and_fetch_nothing() -> None:
    files = render(pages.whole_page(HOSTILE))

    for name in (CURVE, SUITES):
        links = [
            value
            for element in ET.fromstring(files[name]).iter()
            for key, value in element.attrib.items()
            if "href" in key
        ]
        assert all(link.startswith("#") for link in links), name


def test_each_suite_is_an_interval_of_the_gain_against_what_it_must_be_above() -> None:
    target, logic = list_suites(VERDICT)

    assert (target.unit, target.gain, target.low, target.high, target.bound) == pytest.approx(
        ("points", 78.4, 67.5, 89.2, 5), abs=1e-9
    )
    assert (logic.gain, logic.low, logic.high, logic.bound) == pytest.approx((-0.56, -1.66, 0.19, -3))
    assert (target.good, logic.good, logic.state) == (True, True, "intact")
    by_likelihood = VERDICT.target.model_copy(update={"metric": "nll"})
    target, _ = list_suites(VERDICT.model_copy(update={"target": by_likelihood}))
    assert (target.unit, target.gain, target.bound, target.scores) == ("nats a token", 1.512, 0.05, ("2.520", "1.008"))


def test_a_comparison_with_the_champion_is_an_interval_too() -> None:
    losses = {
        "target": Loss(mean=0.02, low=-0.03, high=0.07, margin=0.1),
        "general": Loss(mean=0.0, low=None, high=None, margin=0.1),
    }
    champion = ChampionEvidence(
        rank=Rank.UNPROVEN, reason="…", champion=Champion(version="scribe@b", adapter="sha256:b"), losses=losses
    )
    *_, target, general = list_suites(VERDICT.model_copy(update={"champion": champion}))

    assert (target.name, target.asked, target.good) == ("target, against the champion", "scribe@b", True)
    assert (target.gain, target.low, target.high, target.bound) == pytest.approx((-2, -7, 3, -10))
    assert (general.low, general.high, general.good, str(general.gain)) == (None, None, False, "0.0")


def test_the_context_is_an_interval_against_its_margin() -> None:
    _, _, context = list_suites(VERDICT.model_copy(update={"context": pages.CONTEXT}))
    assert (context.gain, context.low, context.high, context.bound) == pytest.approx((54.1, 35, 70, -10))
    assert (context.scores, context.good) == (("24.3 %", "78.4 %"), True)
    assert context.state == "intact (shown, decides nothing)"
    blocking = Policy(context=ContextPolicy(blocking=True))
    _, _, context = list_suites(VERDICT.model_copy(update={"context": pages.CONTEXT, "policy": blocking}))
    assert context.state == "intact"


def test_a_suite_that_decides_nothing_is_marked() -> None:
    suite = VERDICT.suites["base-logic"]
    shown = suite.model_copy(update={"policy": suite.policy.model_copy(update={"blocking": False})})
    _, logic = list_suites(VERDICT.model_copy(update={"suites": {"base-logic": shown}}))

    assert "decides nothing" in logic.state


def test_answers_that_bleed_or_flip_come_first_and_sealed_ones_are_apart() -> None:
    def score(item: str, arm: Arm, *, correct: bool, kind: str = "facts") -> ItemScore:
        suite = "rigidity" if kind == "style" else "general"
        answer = None if kind == "style" else f"{arm} to {item}"
        return ItemScore(suite=suite, kind=kind, item=item, session=item, arm=arm, correct=correct, answer=answer)

    base = [score(item, Arm.BASE, correct=True) for item in ("same", "flipped", "bled")]
    candidate = [score(item, Arm.CANDIDATE, correct=item != "flipped") for item in ("same", "flipped", "bled")]
    style = [score("bled", arm, correct=arm is Arm.BASE, kind="style") for arm in (Arm.BASE, Arm.CANDIDATE)]
    style += [score("same", arm, correct=False, kind="style") for arm in (Arm.BASE, Arm.CANDIDATE)]  # as the base does
    made = results([*INTACT, *base, *candidate, *style], LEARNED)

    found = list_general(made, {})
    assert [one.asked for one in found] == ["general: bled", "general: flipped", "general: same"]
    assert [(one.bleeds, one.flipped) for one in found] == [(True, False), (False, True), (False, False)]
    assert (found[0].base, found[0].candidate) == ("base to bled", "candidate to bled")
    sealed = list_sealed(made)
    assert len(sealed) == len(LEARNED) and sealed[0].flipped


def test_a_general_item_is_shown_with_its_prompt_where_its_suite_is_as_it_was_asked() -> None:
    suites = load_suites(PROJECT / "services/verifier/suites")
    items = [
        ItemScore(suite="general", kind="facts", item="facts-000", session="s", arm=arm, correct=True, answer="Paris.")
        for arm in (Arm.BASE, Arm.CANDIDATE)
    ]
    made = results([*INTACT, *items], LEARNED)
    asked = {**made.suites, "general": made.suites["general"].model_copy(update={"digest": suites["general"].digest})}

    assert list_general(made, suites)[0].asked == "general: facts-000"
    unchanged = made.model_copy(update={"suites": asked})
    assert list_general(unchanged, suites)[0].asked == "general: What is the capital of France?"


def write(artifacts: Artifacts, attempt: int, *lines: Progress | str) -> None:
    output = artifacts.run(RITUAL, attempt, "trainer") / "out"
    output.mkdir(parents=True)
    text = (line if isinstance(line, str) else line.model_dump_json() for line in lines)
    (output / PROGRESS_FILE).write_text("".join(f"{line}\n" for line in text))


def train(step: int, loss: float) -> Progress:
    return Progress(phase="train", done=step, total=9, unit="steps", loss=loss)


def saved(step: int, dev_loss: float | None = None) -> Progress:
    return Progress(phase="checkpoint", done=step, total=9, unit="steps", dev_loss=dev_loss)


def test_the_curve_is_that_of_all_attempts_and_what_was_trained_again_counts(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    write(
        artifacts,
        1,
        saved(0, 3.0),
        train(1, 2.5),
        train(2, 2.0),
        saved(2, 1.9),
        train(3, 9.0),
        train(4, 9.0),
        train(5, 9.0),
        saved(5, 9.0),
    )
    write(artifacts, 2, train(3, 1.5), "no line", json.dumps({"phase": "train"}), train(4, 1.2), saved(4))

    curve = read_curve(artifacts, RITUAL)
    assert curve == Curve({1: 2.5, 2: 2.0, 3: 1.5, 4: 1.2}, {0: 3.0, 2: 1.9}, (2, 4))
    assert read_curve(artifacts, UUID(int=1)) == Curve()


def test_without_the_runs_files_the_curve_is_what_the_ledger_has() -> None:
    shown = snapshot(ritual("awakened", 33, 33), WHOLE)
    page = build_page(shown, build_report(shown, {}, "http://p"), Curve(), None)

    assert page.curve == recorded_curve(TRAINING) == Curve({40: 1.2}, {0: 2.5, 40: 1.25}, (40,))


def test_a_folder_that_is_there_is_never_written_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists and is not overwritten"):
        write_report(tmp_path, {PAGE: ""})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        write_report(tmp_path / "file" / "inner", {PAGE: ""})
    write_report(tmp_path / "new", {PAGE: "x"})
    assert (tmp_path / "new" / PAGE).read_text() == "x"
