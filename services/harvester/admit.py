"""Which records may be trained on: consecrated, not revoked, not superseded, and each text once. Every no has a reason."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from enum import StrEnum

from shared.contracts.karma import KarmaRecord, Status


class Reason(StrEnum):
    """Why a record is not used."""

    UNCONSECRATED = "unconsecrated"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"  #: a consecrated correction of it exists
    DUPLICATE = "duplicate"  #: the same conversation is used under another id


def admit_one(record: KarmaRecord, superseded: frozenset[str], seen: set[bytes]) -> Reason | None:
    """Why `record` is not used, or None: then its text is added to `seen`, and whoever repeats it is a duplicate."""
    if (reason := _refusal(record, superseded)) is not None:
        return reason
    text = fingerprint(record)
    if text in seen:
        return Reason.DUPLICATE
    seen.add(text)
    return None


def _refusal(record: KarmaRecord, superseded: frozenset[str]) -> Reason | None:
    if record.status is Status.REVOKED:
        return Reason.REVOKED
    if record.id in superseded:
        return Reason.SUPERSEDED
    if record.status is not Status.WHITE_TRUTH:
        return Reason.UNCONSECRATED
    return None


def fingerprint(record: KarmaRecord) -> bytes:
    """SHA-256 of the conversation after Unicode normalisation, case folding and collapsing of white space."""
    turns = [(m.role, _normal(m.content or ""), m.tool_calls) for m in record.messages if m.role != "system"]
    return hashlib.sha256(json.dumps(turns, sort_keys=True).encode()).digest()


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
