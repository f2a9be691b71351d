"""`soulforge adapters promote|reject|rollback|retire|pin|unpin|history`, `soulforge approve|reject`: decisions about versions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.commands.adapters import PANEL, group
from deploy.cli.connect import database, load_settings, make_message, withdraw_at_gateway
from deploy.cli.console import out
from deploy.cli.errors import UnreachableError, UserError

if TYPE_CHECKING:
    from services.registry.policy import Aliases
    from services.registry.views import PersonaAliases, RecordedDecision
    from services.verifier.views import Looks
    from shared.config.settings import Settings
    from shared.contracts.registry import Action

REQUESTER = "soulforge cli"

Version = Annotated[str, typer.Argument(help="A version, as `soulforge adapters` lists it.")]
Persona = Annotated[str, typer.Argument(help="The persona.")]
By = Annotated[str, typer.Option(metavar="WHO", help="Who decides; kept with the decision.")]
Why = Annotated[str, typer.Option(help="Reason; kept with the decision.")]
Champion = Annotated[
    str | None,
    typer.Option(metavar="VERSION", help="Decide only if this is the champion. Default: the one that is it now."),
]
Override = Annotated[
    bool, typer.Option("--override", help="Also one that was banished or withdrawn; needs a reason (--why).")
]


def register(app: typer.Typer) -> None:
    for command in (promote, reject, rollback, retire, pin, unpin, history):
        group.command()(command)
    app.command(rich_help_panel=PANEL)(approve)
    app.command("reject", rich_help_panel=PANEL)(reject_waiting)


def promote(
    version: Version, by: By = REQUESTER, why: Why = "", champion: Champion = None, override: Override = False
) -> None:
    """Make a version the champion of its persona.

    Where no rune has it loaded, it is loaded and proven first.
    """
    _decide("promote", None, version, by, why, champion, override)


def reject(version: Version, by: By = REQUESTER, why: Why = "", champion: Champion = None) -> None:
    """Reject a candidate.

    It is kept, and not promoted by itself.
    """
    _decide("reject", None, version, by, why, champion)


def rollback(persona: Persona, by: By = REQUESTER, why: Why = "", champion: Champion = None) -> None:
    """Make the previous version the champion again.

    Nothing is promoted by itself after that, until the next promotion by name or `unpin`.
    """
    _decide("roll_back", persona, None, by, why, champion)


def retire(version: Version, by: By = REQUESTER, why: Why = "", champion: Champion = None) -> None:
    """Withdraw a version for good: it answers no request any more.

    The place of a champion goes to the previous version.
    """
    settings = load_settings()
    try:
        _decide("retire", None, version, by, why, champion)
    except UnreachableError as error:
        if not asyncio.run(withdraw_at_gateway(settings, version, why)):
            raise
        raise UserError(
            f"the gateway refuses {version} from now on, also after a restart, but that is not recorded yet, and its persona may "
            f"have no version: run this again once the database answers ({error})"
        ) from error
    # The database announces it as well; this is for a gateway that does not see the database.
    asyncio.run(withdraw_at_gateway(settings, version, why))


def pin(version: Version, by: By = REQUESTER, why: Why = "", champion: Champion = None) -> None:
    """Let the champion stay the champion until it is unpinned.

    Versions that pass are candidates only.
    """
    _decide("pin", None, version, by, why, champion)


def unpin(persona: Persona, by: By = REQUESTER, why: Why = "", champion: Champion = None) -> None:
    """Lift a pin or a roll back.

    Versions are promoted again as the persona's policy is.
    """
    _decide("unpin", persona, None, by, why, champion)


def approve(
    persona: Persona, by: By = REQUESTER, why: Why = "", champion: Champion = None, override: Override = False
) -> None:
    """Promote the candidate of a persona."""
    _decide("promote", persona, None, by, why, champion, override)


def reject_waiting(persona: Persona, by: By = REQUESTER, why: Why = "", champion: Champion = None) -> None:
    """Reject the candidate of a persona."""
    _decide("reject", persona, None, by, why, champion)


def history(persona: Persona) -> None:
    """List the decisions about a persona, the newest first.

    Also how often verdicts looked at its sealed holdout: each further look is tested more strictly.
    """
    from rich.table import Table

    decisions, looks = asyncio.run(_list(load_settings(), persona))
    if not decisions:
        raise UserError(f"nothing was decided about persona {persona!r}: `soulforge adapters` lists the versions")
    table = Table(box=None, pad_edge=False)
    for name in ("decided", "action", "version", "champion after", "by", "why"):
        table.add_column(name, overflow="fold")
    for one in decisions:
        action = f"{one.action}, override" if one.override else one.action
        moved = (one.champion or "none") if one.champion != one.champion_before else "as before"
        when = f"{one.decided_at.astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(when, action, one.version or "", moved, one.by, one.why)
    out.print(table)
    out.print(
        f"\nsealed holdout: {looks.verdicts} verdicts on {looks.sessions} sessions, {looks.most} on the most used one; "
        f"{looks.learned} showed learning",
        style="dim",
    )


async def _list(settings: Settings, persona: str) -> tuple[list[RecordedDecision], Looks]:
    from services.registry.views import list_decisions
    from services.verifier.views import get_looks

    async with database(settings) as pool:
        return await list_decisions(pool, persona), await get_looks(pool, persona)


def _decide(
    action: str,
    persona: str | None,
    version: str | None,
    by: str,
    why: str,
    champion: str | None,
    override: bool = False,
) -> None:
    from shared.contracts.registry import Action

    if persona is None:
        persona = (version or "").rpartition("@")[0]
        if not persona:
            raise UserError(f"{version!r} is no version: give one as `soulforge adapters` lists it, e.g. scribe@0123")
    kind = Action(action)
    before, after, about = asyncio.run(
        _record(load_settings(), kind, persona, version, champion, {"by": by, "why": why, "override": override})
    )
    out.print(_effect(kind, before, after, about), soft_wrap=True)


async def _record(
    settings: Settings,
    action: Action,
    persona: str,
    version: str | None,
    champion: str | None,
    given: dict[str, object],
) -> tuple[PersonaAliases | None, Aliases, str | None]:
    """Decide, in one transaction; returns the aliases before and after it, and the version that it is about."""
    from services.registry.decisions import RefusedError, decide
    from services.registry.views import get_aliases
    from shared.contracts.registry import Action, AdapterDecide

    async with database(settings) as pool:
        seen = await get_aliases(pool, persona)
        if version is None and action in (Action.PROMOTE, Action.REJECT):
            if seen is None or seen.candidate is None:
                raise UserError(
                    f"no version of {persona!r} waits for approval: `soulforge adapters` lists the versions"
                )
            version = seen.candidate
        known = champion or (seen.champion if seen else None)
        options = {"by": "--by", "why": "--why", "persona": "PERSONA", "version": "VERSION", "champion": "--champion"}
        asked = make_message(
            AdapterDecide, options, action=action, persona=persona, version=version, champion=known, **given
        )
        try:
            async with pool.acquire() as conn, conn.transaction():
                return seen, await decide(conn, asked), version
        except RefusedError as error:
            raise UserError(str(error)) from error


def _effect(action: Action, before: PersonaAliases | None, after: Aliases, about: str | None) -> str:
    """What a decision led to, in one line."""
    from shared.contracts.registry import Action

    persona, was = after.persona, before.champion if before else None
    if action is Action.PROMOTE and after.champion != about:
        return f"approved: {about} becomes the champion of {persona} as soon as a rune has loaded it (`soulforge adapters`)"
    if after.champion != was:
        return (
            f"{persona} answers as {after.champion} now (before: {was})" if after.champion else f"{persona}: no version"
        )
    texts = {
        Action.REJECT: f"{about} is rejected",
        Action.RETIRE: f"{about} is withdrawn",
        Action.PIN: f"{persona} is pinned to {after.champion}",
        Action.UNPIN: f"versions of {persona} are promoted again as its policy is",
    }
    return f"{texts.get(action, about)}; {persona} answers as {after.champion or 'no version'}"
