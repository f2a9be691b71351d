"""Work on rituals one by one: an error belongs to the ritual that it met, and never stops the others.

The error is recorded and the ritual waits before its next try; after `runtime.max_errors` in a row it ends with the
reason. What a shared server or a full machine causes counts against no ritual: it is known by its class (`is_shared`),
or else the error cannot be recorded for the same cause. What a slow server may cause too must last for PATIENCE_S.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import structlog
from nats.errors import Error as NatsError

from shared.contracts.forge import AdapterFailed
from shared.contracts.text import clean
from shared.ritual.errors import clear_errors, list_tried, record_error
from shared.runtime.metrics import RITUAL_ERRORS
from shared.storage.postgres import SERVER_ERRORS, UNREACHABLE
from shared.storage.untrusted import SHORTAGES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from shared.ritual.ledger import Ritual
    from shared.runtime.context import ServiceContext

log = structlog.get_logger()

EXHAUSTED = frozenset({*SHORTAGES, errno.ENOSPC, errno.EDQUOT, errno.EROFS})
PATIENCE_S = 900.0  # with errors that a slow or restarting server may cause
FIRST_DELAY_S = 1.0
OURS = ("shared.", "services.")
KEPT = 500  # characters of an error


async def advance_each(
    context: ServiceContext,
    rituals: Iterable[Ritual],
    advance: Callable[[Ritual], Awaitable[object]],
    clear: bool = True,
    owner: str | None = None,
) -> None:
    """Call `advance` for every ritual that is not waiting for its next try. Raises what the first query raises.

    Success clears the errors of a ritual, unless it is only a step on the way to where they were met (`clear` is False),
    or nothing could be tried (`advance` returns False). They are those of `owner`, by default the service; a service
    with two kinds of work counts their errors apart.
    """
    tried = await list_tried(context.pool, owner or context.service)
    for ritual in rituals:
        if tried.get(ritual.id, True):
            await advance_one(context, ritual, advance, clear=clear and ritual.id in tried, owner=owner)


async def advance_one(
    context: ServiceContext,
    ritual: Ritual,
    advance: Callable[[Ritual], Awaitable[object]],
    clear: bool = False,
    owner: str | None = None,
) -> bool:
    """Call `advance`; False after an error, which is logged, counted, and ends the ritual after too many."""
    with structlog.contextvars.bound_contextvars(ritual=str(ritual.id)):
        try:
            tried = await advance(ritual)
            if clear and tried is not False:
                await clear_errors(context.pool, ritual.id, owner or context.service)
        except Exception as error:
            if is_shared(error) or (isinstance(error, NatsError) and not context.nats.is_connected):
                log.warning("ritual postponed", error=describe(error))
            else:
                log.exception("ritual not advanced")
                await _count(context, ritual, error, owner or context.service)
            return False
    return True


def is_shared(error: Exception) -> bool:
    """Whether the fault is of the database's server, or of a machine without disk or memory left."""
    return isinstance(error, SERVER_ERRORS) or (isinstance(error, OSError) and error.errno in EXHAUSTED)


async def _count(context: ServiceContext, ritual: Ritual, error: Exception, owner: str) -> None:
    """Record an error; where even that is impossible, the next pass meets it again."""
    RITUAL_ERRORS.labels(ritual.state).inc()
    try:
        row = await record_error(context.pool, ritual, owner, describe(error), FIRST_DELAY_S)
        lasts = row.since_s >= PATIENCE_S or not isinstance(error, UNREACHABLE)
        if row.count >= context.configuration.runtime.max_errors and lasts:
            reason = f"the {owner} met an error {row.count} times: {describe(error)}; its log has the details"
            await context.record(AdapterFailed(**ritual.key, reason=reason), ritual.entered_at)
    except Exception as unrecorded:
        log.warning("error of a ritual not recorded", error=describe(unrecorded))


def describe(error: Exception) -> str:
    """An error in one line that can be stored; the class is named unless it is our own, whose text is a sentence."""
    name, text = type(error).__name__, str(error)
    if not text:
        text = name
    elif not type(error).__module__.startswith(OURS):
        text = f"{name}: {text}"
    return clean(text)[:KEPT]
