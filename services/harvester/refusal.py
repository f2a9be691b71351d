"""Why a harvest is refused: what is missing for a training that can be judged, or that it fits into no memory; and what to do."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from services.harvester.reasons import REMEDIES, Reason
from services.harvester.rows import File
from services.harvester.split import Split
from shared.drivers.accelerators.room import get_room
from shared.storage.base_model import Bases
from shared.storage.training_memory import IDLE, Batch, DoesNotFit, fit, longest_row, read_size

if TYPE_CHECKING:
    from services.harvester.manifest.compile import Compiled
    from services.harvester.policy import HarvestPolicy
    from services.harvester.settings import HarvesterSettings
    from shared.config.recipe import LossName, Recipe
    from shared.runtime.context import ServiceContext

REASONS = 3  # whose ids and remedies are named; of the others the counts
#: What a loss trains on, and what an owner does to have some.
LACKING: dict[LossName, str] = {
    "dpo": "corrections of answers: `soulforge karma correct ID` makes one",
    "kto": "answers that were liked and answers that were disliked, or corrections of answers",
    "sdft": "records that state why they were chosen: `soulforge karma consecrate --why` states it",
}
EXPLAIN = "`soulforge karma explain ID` shows what becomes of one record"


def shortfall(compiled: Compiled, settings: HarvesterSettings, loss: LossName = "sft") -> str | None:
    """What is missing for a training with this loss that can be judged; None when nothing is."""
    train, held_out = compiled.rows[File.TRAIN], compiled.rows[File.HOLDOUT]
    if compiled.seen == 0:
        return (
            "this persona has no karma before the intent's `until`, if it has one: import or consecrate some first "
            "(`soulforge karma stats` counts every persona's)"
        )
    if compiled.used == 0:
        return f"none of {compiled.seen} records can be used: {_excluded(compiled, settings)}. {EXPLAIN}"
    if train < settings.min_train:
        missing = f"{train} records to train on, {settings.min_train} needed"
    elif held_out < settings.min_held_out:
        missing = f"no viable holdout: {held_out} records in it, {settings.min_held_out} needed to carry a verdict"
    elif not _can_train(compiled, loss):
        return (
            f'no record to train on serves loss "{loss}", which needs {LACKING[loss]}. Or take a recipe of loss "sft"'
        )
    else:
        return None
    parts = [f"{compiled.used} of {compiled.seen} records can be used", *_sides(compiled, settings)]
    if compiled.excluded:
        parts.append(f"Left out: {_excluded(compiled, settings)}")
    return f"{missing}: {'. '.join(parts)}. {EXPLAIN}"


def oversize(context: ServiceContext, persona: str, recipe: Recipe, longest: tuple[int, int]) -> str | None:
    """Why no training with this recipe fits into the memory that it may take; None where one does, or may.

    `longest` are tokens as in `Compiled`. Known before the anvil is taken, while inference goes on. Blocks for milliseconds.
    """
    configuration = context.configuration
    base = Bases(context.settings, configuration).path(configuration.base_of(persona))
    try:
        size = read_size(base)
    except (OSError, ValueError, struct.error):
        return None  # the stage that needs it names what is wrong with it
    room, on_gpu = get_room(configuration)
    if size is None or room is None:
        return None
    length = longest_row(recipe, size, longest)
    try:
        fit(
            size,
            recipe,
            Batch(recipe.rows_at_once, length, length, on_gpu),
            room if on_gpu else room - IDLE,
            on_gpu=on_gpu,
        )
    except DoesNotFit as error:
        return str(error)
    return None


def _can_train(compiled: Compiled, loss: LossName) -> bool:
    """Whether the manifest holds what the loss trains on."""
    pairs, signals = compiled.rows[File.PAIRS], compiled.signals
    match loss:
        case "dpo":
            return pairs > 0
        case "kto":
            return pairs > 0 or (signals["up"] > 0 and signals["down"] > 0)
        case "sdft":
            return signals["why"] > 0
    return True


def remedy(reason: Reason, policy: HarvestPolicy) -> str:
    """What an owner can do about records that this policy leaves out."""
    return REMEDIES[reason].format(policy=policy, licences=", ".join(policy.licences) or "none")


def _sides(compiled: Compiled, settings: HarvesterSettings) -> list[str]:
    """Where the used records are, and what to do about that."""
    sides = compiled.sides
    split, disliked = (
        settings.split,
        sides[Split.TRAIN].records - compiled.rows[File.TRAIN] if Split.TRAIN in sides else 0,
    )
    if sum(side.lineages for side in sides.values()) == 1:
        [(name, only)] = sides.items()
        parts = [
            f"All are of one session ({only.session}) or of sessions that corrections or logs join to it, and so all are in {name}: "
            "a session is never split. Give separate work a `session` of its own (`--session-by` of `soulforge karma import`), "
            "or add other sessions"
        ]
    else:
        found = ", ".join(f"{side.records} in {name} (sessions: {side.lineages})" for name, side in sides.items())
        parts = [
            f"They are {found}: whole sessions go to one side by a hash of their names, {split.holdout:g} of them to the holdout "
            f"and, without `dev_sources`, {split.dev:g} to dev (`harvest.split` in soulforge.toml); karma of more sessions is needed"
        ]
    if disliked:
        parts.append(f"{disliked} in train have a thumb down: `soulforge karma correct ID` gives a right answer")
    return parts


def _excluded(compiled: Compiled, policy: HarvestPolicy) -> str:
    """The commonest reasons with ids and what to do, the others with their counts."""
    ranked = sorted(compiled.excluded.items(), key=lambda entry: (-entry[1], entry[0]))
    named = [
        f"{count} {reason} ({_ids(compiled, reason)}): {remedy(Reason(reason), policy)}"
        for reason, count in ranked[:REASONS]
    ]
    return "; ".join([*named, *(f"{count} {reason}" for reason, count in ranked[REASONS:])])


def _ids(compiled: Compiled, reason: str) -> str:
    ids = compiled.examples[reason]
    return ", ".join(ids) + (", …" if compiled.excluded[reason] > len(ids) else "")
