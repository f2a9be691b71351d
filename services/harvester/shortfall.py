"""What is missing for a training that can be judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.harvester.manifest.rows import File
from services.harvester.reasons import Reason

if TYPE_CHECKING:
    from services.harvester.manifest.compile import Compiled
    from services.harvester.settings import HarvesterSettings

#: What an owner can do about the commonest reasons.
REMEDIES = {
    Reason.UNCONSECRATED: "consecrate records whose outcome was verified",
    Reason.FILTERED: "widen the intent's kinds, since, until or query",
    Reason.NO_CONSENT: "only records whose `purposes` name training are used",
    Reason.LICENCE: "add their licence to `licences` in harvest.toml, where it allows training",
    Reason.SECRET: 'remove the secrets from these records, or set `redaction.secrets = "redact"` in harvest.toml',
    Reason.PERSONAL: 'set `redaction.personal = "redact"` in harvest.toml',
    Reason.MALFORMED: "look at the records: a conversation must end in the assistant's answer",
    Reason.TOO_LONG: "raise `lengths.row` in harvest.toml",
}


def shortfall(compiled: Compiled, settings: HarvesterSettings) -> str | None:
    """What is missing for a training that can be judged; None when nothing is."""
    if compiled.seen == 0:
        return "this persona has no karma: import or consecrate some first"
    if compiled.used == 0:
        return f"none of {compiled.seen} records can be used: {_excluded(compiled)}{_remedy(compiled)}"
    train, held_out = compiled.rows[File.TRAIN], compiled.rows[File.HOLDOUT]
    if train < settings.min_train:
        return (
            f"{train} records to train on, {settings.min_train} needed (seen {compiled.seen}; excluded: "
            f"{_excluded(compiled)}){_remedy(compiled)}"
        )
    if held_out < settings.min_held_out:
        return (
            f"no viable holdout: {held_out} records in it, {settings.min_held_out} needed to carry a verdict; karma from more "
            f"sessions is missing (excluded: {_excluded(compiled)})"
        )
    return None


def _excluded(compiled: Compiled) -> str:
    ranked = sorted(compiled.excluded.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{count} {reason}" for reason, count in ranked) or "none"


def _remedy(compiled: Compiled) -> str:
    known = [(count, reason) for reason, count in compiled.excluded.items() if reason in REMEDIES]
    return f"; {REMEDIES[Reason(max(known)[1])]}" if known else ""
