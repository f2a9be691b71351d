"""`soulforge watch`: follow one ritual until it has ended and inference is back; a lost server is waited for."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.connect import database, host_port, ignore_error, load_settings
from deploy.cli.console import out, print_note
from deploy.cli.errors import UserError
from deploy.cli.format import short_id

if TYPE_CHECKING:
    from uuid import UUID

    from nats.aio.msg import Msg

    from deploy.cli.queries.rituals import Snapshot
    from deploy.cli.views.live import LiveView
    from shared.config.settings import Settings
    from shared.contracts.intent import RitualProgress
    from shared.ritual.views import RitualStatus
    from shared.storage.postgres import Pool

PANEL = "Rituals"
POLL_S = 0.5
PROGRESS_FRESH_S = 15.0


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(watch)


def watch(
    ritual: Annotated[
        str | None, typer.Argument(help="The ritual, by the first digits of its id. Default: the newest.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Stop watching after so many seconds; the ritual continues.")
    ] = None,
) -> None:
    """Follow a ritual until it has ended and inference is back.

    Exit code 0 only when its adapter serves. One line for each fact; on a terminal also all stages and the running job.
    """
    from deploy.cli.views.live import end_view
    from shared.contracts.ritual import State

    settings = load_settings()
    found = asyncio.run(_find(settings, ritual))
    again = f"watch it again: soulforge watch {short_id(found)}"
    try:
        snapshot = asyncio.run(_watch(settings, found, timeout))
    except KeyboardInterrupt:
        print_note(f"the ritual continues by itself; {again}")
        raise
    if snapshot is None:
        raise UserError(f"ritual {short_id(found)} is still under way after {timeout:.0f} s; {again}")
    out.print(end_view(snapshot, settings.phoenix_url))
    raise typer.Exit(0 if snapshot.ritual.state is State.AWAKENED else 1)


async def _find(settings: Settings, given: str | None) -> UUID:
    from deploy.cli.queries.rituals import find_ritual

    async with database(settings) as pool:
        return await find_ritual(pool, given)


async def _watch(settings: Settings, ritual: UUID, timeout_s: float | None) -> Snapshot | None:
    """The last snapshot of the ritual, or None when the time was up before it was over."""
    from contextlib import suppress

    from deploy.cli.views.live import LiveView

    progress = ProgressListener(ritual)
    listening = asyncio.create_task(progress.listen(settings))
    try:
        with suppress(TimeoutError), LiveView(out) as view:
            async with asyncio.timeout(timeout_s):
                return await _follow(settings, ritual, progress, view)
        return None
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _follow(settings: Settings, ritual: UUID, progress: ProgressListener, view: LiveView) -> Snapshot:
    """Show the ritual until it has ended and inference is back; returns the last snapshot."""
    from deploy.cli.queries.rituals import get_snapshot
    from deploy.cli.views.stages import is_over
    from shared.storage.postgres import UNREACHABLE, open_pool

    pool: Pool | None = None
    try:
        while True:
            try:
                pool = pool or await open_pool(settings.database_url("owner"), "public", size=1)
                snapshot = await get_snapshot(pool, ritual)
            except UNREACHABLE:
                view.lost(f"PostgreSQL does not answer at {host_port(settings.database_url('owner'))}; trying again")
                await asyncio.sleep(POLL_S)
                continue
            if snapshot is None:
                raise UserError(f"ritual {ritual} is no longer in the ledger: was the database replaced?")
            view.update(snapshot, progress.get(snapshot.ritual))
            if is_over(snapshot):
                return snapshot
            await asyncio.sleep(POLL_S)
    finally:
        if pool:
            pool.terminate()


class ProgressListener:
    """Receives `ritual.progress` of one ritual for as long as it is watched, through any restart of the bus."""

    def __init__(self, ritual: UUID) -> None:
        self.ritual = ritual
        self._last: RitualProgress | None = None
        self._received_at = 0.0

    async def listen(self, settings: Settings) -> None:
        from shared.contracts.intent import RitualProgress
        from shared.contracts.roles import Role
        from shared.messaging.client import connect

        client = await connect(
            settings, Role.OWNER, max_reconnect_attempts=-1, reconnect_time_wait=1, error_cb=ignore_error
        )
        try:
            await client.subscribe(RitualProgress.subject, cb=self._receive)
            await asyncio.Event().wait()
        finally:
            await client.close()

    async def _receive(self, message: Msg) -> None:
        from pydantic import ValidationError

        from shared.contracts.intent import RitualProgress

        try:
            progress = RitualProgress.model_validate_json(message.data)
        except ValidationError:
            return  # Progress may be lost anyway: what cannot be read is not shown.
        if progress.ritual == self.ritual:
            self._last, self._received_at = progress, monotonic()

    def get(self, ritual: RitualStatus) -> RitualProgress | None:
        """The last progress of the job that runs in the ritual's state; None when it is another job's or old."""
        from deploy.cli.views.stages import running_job

        fresh = monotonic() - self._received_at <= PROGRESS_FRESH_S
        return self._last if self._last and fresh and self._last.job == running_job(ritual) else None
