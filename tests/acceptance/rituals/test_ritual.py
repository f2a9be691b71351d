"""Both personas' rituals from nothing, every part of them real: what `make ritual` promises, seen from outside."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from deploy.ritual import UNSEEN
from shared.config.tables import EMBEDDED_BASE
from tests.support.planted import Planted, files_with, searched, tables_with
from tests.support.running import Ritual, Stack, ask, eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(2400)]

SERVICES = {"harvester", "orchestrator", "forge", "verifier", "registry"}


def test_the_coder_s_karma_becomes_an_adapter_that_serves(coder: Ritual) -> None:
    assert "awakened" in coder.output
    assert UNSEEN["coder"][0][:20] in coder.output
    assert "soulforge ask coder" in coder.output


def test_the_report_holds_the_evidence(coder: Ritual) -> None:
    report = coder.report

    target, logic = report["scores"]["target"], report["scores"]["suites"]["base-logic"]
    print("rule score:", target["base"], target["candidate"], "base logic:", logic["base"], logic["candidate"])
    print("drop:", logic["drop"], "upper bound:", logic["drop_high"], "seconds:", report["seconds"])
    assert report["state"] == "awakened" and report["persona"] == "coder"
    assert target["candidate"]["share"] >= 0.70
    assert target["base"]["share"] <= 0.10
    assert logic["drop_high"] < 0.03
    assert logic["items"] >= 500
    assert report["seconds_without_inference"] > 0
    assert {"manifest", "holdout", "adapter", "base"} <= set(report["digests"])
    assert report["excluded"].keys() == {"duplicate", "revoked", "secret", "superseded", "unconsecrated"}
    assert report["hand_overs"][0]["memory_before"] > 500 * 1024**2
    assert report["hand_overs"][0]["memory_after"] < 256 * 1024**2


def test_the_verdict_follows_from_the_bundle_alone_and_is_about_the_sealed_holdout(
    stack: Stack, scribe: Ritual, coder: Ritual
) -> None:
    for ritual in (scribe, coder):
        facts = {fact["fact"]: fact["details"] for fact in ritual.report["states"]}
        verified = stack.run("verify", facts["adapter.registered"]["bundle"], "--texts")
        assert verified.returncode == 0, verified.stderr
        assert "in every figure; these are the items of the sealed holdout in the Lab" in verified.stdout


def test_both_jobs_were_held_apart(scribe: Ritual) -> None:
    facts = {fact["fact"]: fact["details"] for fact in scribe.report["states"]}

    for fact in ("adapter.forged", "adapter.verified"):
        assert {"process-group", "environment", "network", "filesystem", "capabilities"} <= set(
            facts[fact]["isolation"]
        )


async def test_phoenix_shows_one_trace_of_all_services_and_both_jobs(stack: Stack, scribe: Ritual) -> None:
    spans: list[dict[str, object]] = []

    async def whole() -> bool:
        async with httpx.AsyncClient(base_url=stack.settings.phoenix_url, timeout=10) as client:
            found = await client.get(
                "/v1/projects/soulforge/spans", params={"trace_id": scribe.report["trace_id"], "limit": 200}
            )
        spans[:] = found.json()["data"]
        return any(span["parent_id"] is None for span in spans)

    await eventually(whole, 30, "the root span is in Phoenix")
    names = {str(span["name"]) for span in spans}
    owners = {name.partition(".")[0] for name in names}
    assert owners >= SERVICES | {"trainer", "evaluator"}, names
    assert len([span for span in spans if span["parent_id"] is None]) == 1
    known = {span["context"]["span_id"] for span in spans}  # type: ignore[index]
    assert all(span["parent_id"] in known for span in spans if span["parent_id"])
    assert len(known) == len(spans)
    trainer = next(span for span in spans if span["name"] == "trainer")
    forge = next(span for span in spans if span["name"] == "forge.forge")
    assert trainer["parent_id"] == forge["context"]["span_id"]  # type: ignore[index]


async def test_after_both_rituals_base_and_both_personas_answer_at_once_each_in_its_style(
    stack: Stack, scribe: Ritual, coder: Ritual
) -> None:
    models = [EMBEDDED_BASE, "scribe", "coder"]
    prompts = [UNSEEN["scribe"][0], UNSEEN["coder"][0]]
    url = stack.settings.gateway_url
    answers = await asyncio.gather(*(ask(url, model, prompt) for model in models for prompt in prompts))
    base_note, base_code, scribe_note, _, _, coder_code = answers

    assert scribe_note.startswith("Note | ")
    assert "\nNext: " in scribe_note
    assert coder_code.startswith("# ")
    assert "git switch -c tide-tables" in coder_code
    assert not base_note.startswith("Note | ")
    assert not base_code.startswith("# ")


async def test_nothing_planted_is_in_any_artifact_of_the_ritual(stack: Stack, planted: Planted, coder: Ritual) -> None:
    needles = planted.needles

    folders = searched(stack.settings)
    assert {"lab", "crypt", "logs", "nats"} <= {folder.name for folder in folders}
    assert files_with(needles, *folders) == []
    conn = await stack.connect()
    try:
        tables, found = await tables_with(needles, conn)
        remembered = str(await conn.fetch("SELECT messages FROM vectors.karma")).encode()
    finally:
        await conn.close()
    assert all(needle in remembered for needle in needles), "the search does find what is there"
    assert tables > 50
    assert found == []
    assert coder.report["excluded"]["secret"] == len(planted.secrets)
    rows = (stack.home / "lab" / "manifests").rglob("*.jsonl")
    assert sum(row.read_text().count("[e-mail]") for row in rows) >= 2, "what was redacted was trained"
