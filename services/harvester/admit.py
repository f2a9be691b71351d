"""Which records may be trained on: consecrated, not revoked, not superseded, and each text once. Every no has a reason."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum

from shared.contracts.frozen import Frozen
from shared.contracts.karma import KarmaRecord, Status


class Reason(StrEnum):
    """Why a record is not used."""

    UNCONSECRATED = "unconsecrated"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"  #: a consecrated correction of it exists
    DUPLICATE = "duplicate"  #: the same conversation is used under another id
    LINEAGE_SEALED = "lineage_sealed"  #: a relative of it lies in the sealed holdout


class Admission(Frozen):
    """One record with what was decided about it."""

    record: KarmaRecord
    reason: Reason | None


def admit(records: Iterable[KarmaRecord], superseded: frozenset[str]) -> Iterator[Admission]:
    """Decide on each record, in order; of several with the same text the first admitted one stays."""
    seen: set[bytes] = set()
    for record in records:
        reason = _refusal(record, superseded)
        if reason is None:
            text = fingerprint(record)
            reason = Reason.DUPLICATE if text in seen else None
            seen.add(text)
        yield Admission(record=record, reason=reason)


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
