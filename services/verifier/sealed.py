"""What a verdict follows from, without any text: kept in the bundle, so that anyone can recompute the verdict.

An item of the holdout is named by the salted hash of its record, a session by the least of its items' hashes: neither text nor
name is in it, and who has the sealed holdout can check that these are its items.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from services.verifier.job import HOLDOUT
from services.verifier.results import STYLE, HeldOut, Results
from services.verifier.verdict import judge
from shared.contracts.frozen import Frozen
from shared.contracts.verify import Champion, Look, Policy, Verdict
from shared.storage.shards import lines
from shared.storage.suites import LoadedSuite, items_asked


class SealedEvidence(Frozen):
    """The scores of each arm on each item, and what else the verdict follows from."""

    salt: str
    policy: Policy
    look: Look
    champion: Champion | None
    warnings: tuple[str, ...]
    results: Results

    def verdict(self) -> Verdict:
        """The verdict that follows. Raises ValueError where none does."""
        verdict = judge(self.results, self.policy, self.look, self.champion)
        return verdict.model_copy(update={"warnings": (*verdict.warnings, *self.warnings)})


class Record(Frozen):
    """A line of the sealed holdout, and whether its conversation opens with a system prompt."""

    session: str
    line: str
    has_prompt: bool = False


def read_records(holdout: Path) -> dict[str, Record]:
    """The records of a sealed holdout by id. Raises ShardError."""
    found = {}
    for _, line in lines(holdout / HOLDOUT):
        row = json.loads(line)
        opening = row["messages"][0]
        has_prompt = opening["role"] == "system" and bool(opening.get("content"))
        found[row["id"]] = Record(session=row["session"], line=line, has_prompt=has_prompt)
    return found


def expect_suites(results: Results, suites: Mapping[str, LoadedSuite]) -> None:
    """Raise ValueError unless each arm was asked all items of all suites, as they are now."""
    for name, suite in suites.items():
        asked = results.suites.get(name)
        count = items_asked(suites, name)
        if asked is None or (asked.digest, asked.items) != (suite.digest, count):
            raise ValueError(f"it is not about all {count} items of suite {name} as it is now")
        own = {(kind, item.id) for kind, items in suite.items.items() for item in items}
        if (of := suite.suite.style_of) is not None:
            own |= {(STYLE, item.id) for items in suites[of].items.values() for item in items}
        for arm in results.arms:
            scored = {(score.kind, score.item) for score in results.items if (score.suite, score.arm) == (name, arm)}
            if missing := own - scored:
                raise ValueError(
                    f"arm {arm} did not answer all {len(own)} items of suite {name}, {min(missing)} is missing"
                )


def expect_whole(results: Results, records: Mapping[str, Record]) -> None:
    """Raise ValueError unless each record was scored once, or left out, under its own session."""
    scored = [row.id for row in results.holdout]
    answered = [*scored, *results.holdout_left_out]
    if len(set(answered)) != len(answered):
        raise ValueError("a held-out item was scored twice, or scored and left out")
    if strange := set(answered) ^ records.keys():
        raise ValueError(f"{len(strange)} held-out items were skipped or are of another holdout, first {min(strange)}")
    if moved := [row.id for row in results.holdout if row.session != records[row.id].session]:
        raise ValueError(f"held-out item {moved[0]} was scored under another session")
    for row in results.holdout:
        prompted = results.prompts_shown and records[row.id].has_prompt
        ruled = any(answer.passed is not None for answer in row.arms.values())
        if (row.tokens_saved is not None, row.prompted is not None) != (prompted, prompted and ruled):
            raise ValueError(f"held-out item {row.id} was {'not ' if prompted else ''}asked with a system prompt")


def seal(results: Results, records: Mapping[str, Record], salt: str) -> tuple[Results, dict[str, str]]:
    """The results without texts; also returns the label of each session, by name."""
    names = {key: item_hash(salt, record.line) for key, record in records.items()}
    sessions = session_labels(names, records)
    sealed = results.model_copy(
        update={
            "items": tuple(score.model_copy(update={"answer": None}) for score in results.items),
            "repeated": tuple(score.model_copy(update={"answer": None}) for score in results.repeated),
            "holdout": tuple(_sealed(row, names[row.id], sessions[row.session]) for row in results.holdout),
            "holdout_left_out": {names[key]: "" for key in results.holdout_left_out},
            "probes": (),
        }
    )
    return sealed, sessions


def check_texts(evidence: SealedEvidence, records: Mapping[str, Record]) -> None:
    """Raise ValueError unless these are the records that the evidence is about, in their sessions."""
    names = {key: item_hash(evidence.salt, record.line) for key, record in records.items()}
    sessions = session_labels(names, records)
    own = {names[key]: sessions[record.session] for key, record in records.items()}
    about = {row.id for row in evidence.results.holdout} | evidence.results.holdout_left_out.keys()
    if strange := about ^ own.keys():
        raise ValueError(f"{len(strange)} of {len(about | own.keys())} items are not the same in evidence and holdout")
    if moved := [row.id for row in evidence.results.holdout if row.session != own[row.id]]:
        raise ValueError(f"{len(moved)} items are under another session in the holdout, first {moved[0]}")


def item_hash(salt: str, line: str) -> str:
    return hashlib.sha256(f"{salt}\n{line.strip()}".encode()).hexdigest()[:32]


def session_labels(names: Mapping[str, str], records: Mapping[str, Record]) -> dict[str, str]:
    """The label of each session: the least hash of its records."""
    found: dict[str, str] = {}
    for key, record in records.items():
        found[record.session] = min(found.get(record.session, names[key]), names[key])
    return found


def _sealed(row: HeldOut, name: str, session: str) -> HeldOut:
    arms = {arm: answer.model_copy(update={"answer": ""}) for arm, answer in row.arms.items()}
    return HeldOut(id=name, session=session, arms=arms, prompted=row.prompted, tokens_saved=row.tokens_saved)
