"""What became of a record, and what would become of it now, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from deploy.cli.format import short_id

if TYPE_CHECKING:
    from services.harvester.explain import Explanation, GoldenPath, Prospect, Relative, Use


def explanation_view(found: Explanation) -> Table:
    """One line for everything that decides about the record, what a harvest would do with it first."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, line in _lines(found):
        table.add_row(name, line)
    return table


def _lines(found: Explanation) -> Iterator[tuple[str, Text]]:
    yield "karma", Text(found.karma)
    yield "a harvest now", _prospect(found.now, found.feedback)
    if found.now.remedy:
        yield "what to do", Text(found.now.remedy)
    yield "status", Text(_status(found))
    yield "consent", Text("given" if found.consented else "to other purposes only")
    yield "belongs to", Text(_belonging(found))
    yield "states", Text(_stated(found))
    if found.now.found:
        yield "found in it", Text(", ".join(f"{kind} ({count})" for kind, count in found.now.found.items()))
    if found.golden_path:
        yield "golden path", Text(_golden_path(found.golden_path))
    if found.circle:
        yield "circle", Text(f"{found.circle}: a circle of records that are all consecrated is left out")
    elif found.parents:
        yield "corrects", Text(" → ".join(map(_relative, found.parents)))
    if found.corrections:
        yield "corrected by", Text(", ".join(map(_relative, found.corrections)))
    if found.contradicts:
        yield (
            "contradicts",
            Text(f"{', '.join(found.contradicts)}: no preferences are made of them; correct or reject the wrong one"),
        )
    yield "past rituals", Text("\n".join(map(_use, found.uses)) or "none")
    if found.unembedded:
        yield "not compared", Text(f"{found.unembedded} records by meaning: a harvest embeds them first")


def _prospect(now: Prospect, feedback: str | None) -> Text:
    if now.reason:
        text = Text.assemble((f"left out: {_reason(now)}", "red"))
        return text.append(f"; the rejected answer of {now.rejected_by}" if now.rejected_by else "")
    as_label = ", as a thumb down only" if feedback == "down" else ""
    return Text.assemble((f"used in {now.side}{as_label}", "green"), f", about {now.tokens} tokens")


def _reason(one: Prospect | Use) -> str:
    return f"{one.reason}, see {one.repeats}" if one.repeats else str(one.reason)


def _status(found: Explanation) -> str:
    parts = [found.persona, found.status]
    if found.consecrated_by:
        parts.append(f"consecrated by {found.consecrated_by}")
    if found.revoked_at:
        parts.append(f"revoked {found.revoked_at:%Y-%m-%d %H:%M} by {found.revoked_by}")
    return ", ".join(parts)


def _belonging(found: Explanation) -> str:
    named = {"session": found.session, "source": found.source, "licence": found.licence, "kind": found.kind}
    shown = ", ".join(f"{name} {value or '(none)'}" for name, value in named.items() if value is not None)
    return shown or "not shown: what is malformed cannot be searched for secrets"


def _stated(found: Explanation) -> str:
    why = "why it was chosen" if found.has_why else "no why"
    evidence = "evidence of its outcome" if found.has_evidence else "no evidence"
    return f"{why}, {evidence}, {found.checks} checks"


def _golden_path(path: GoldenPath) -> str:
    if not path.read:
        return "its trace was not read yet: the next harvest reads it"
    if path.problem:
        return f"none, so its own messages are used: {path.problem}"
    return f"used in place of its own messages: {path.steps} steps, {path.pruned} left out"


def _relative(relative: Relative) -> str:
    return f"{relative.karma} ({relative.status or 'not remembered'})"


def _use(use: Use) -> str:
    if use.reason:
        became = f"left out: {_reason(use)}"
        became += "; the rejected answer of a pair" if use.side == "rejected" else ""
    else:
        became = f"used in {use.side}"
    refines = f" (refines {short_id(use.refines)})" if use.refines else ""
    return f"ritual {short_id(use.ritual)}{refines}, {use.at.astimezone():%Y-%m-%d %H:%M}: {became}"
