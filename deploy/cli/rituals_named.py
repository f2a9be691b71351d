"""Which ritual is meant: by the start of its id, or the newest."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from deploy.cli import store
from deploy.cli.errors import Mistake

if TYPE_CHECKING:
    from shared.postgres import Pool

DIGITS = frozenset("0123456789abcdef")
WHOLE = 32


def hex_prefix(given: str) -> str:
    """The start of an id as lower-case hex without dashes. Raises Mistake when it can be no id."""
    prefix = given.strip().lower().replace("-", "")
    if not prefix or len(prefix) > WHOLE or not DIGITS.issuperset(prefix):
        raise Mistake(f"{given!r} is no ritual id: give the first digits of one that `soulforge rituals` lists")
    return prefix


def one_of(given: str, found: list[UUID]) -> UUID:
    """The only ritual that `given` can mean. Raises Mistake when there is none, or more than one."""
    if not found:
        raise Mistake(f"no ritual begins with {given}: `soulforge rituals` lists them")
    if len(found) > 1:
        raise Mistake(
            f"{given} is the start of more than one ritual, e.g. {found[0]} and {found[1]}: give more of the id"
        )
    return found[0]


async def ritual_named(pool: Pool, given: str | None) -> UUID:
    """The ritual a person means; without a word of theirs the newest one."""
    if given is not None:
        return one_of(given, await store.matching(pool, hex_prefix(given)))
    if newest := await store.newest(pool):
        return newest
    raise Mistake("there is no ritual yet: `soulforge intend PERSONA` asks for one")
