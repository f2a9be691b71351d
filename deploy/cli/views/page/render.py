"""Write a report's content as HTML and as Markdown. Every text is escaped: what a model or a record holds is hostile."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from deploy.cli.format import duration, short_digest, size
from deploy.cli.views.page.plots import draw_curve, draw_suites
from deploy.cli.views.receipt_text import took
from deploy.cli.views.verdict import saved, score
from shared.contracts.visible import visible

if TYPE_CHECKING:
    from deploy.cli.views.page.content import Page

PAGE, CARD, CURVE, SUITES = "report.html", "README.md", "loss.svg", "suites.svg"
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$!^]|:(?=//)|(?<=www)\.)")  # also what becomes a link by itself
FILTERS = {"duration": duration, "size": size, "short": short_digest, "took": took, "saved": saved, "score": score}


def render(page: Page) -> dict[str, str]:
    """The files of a report, by name."""
    taken, loss = (page.training.taken, page.training.loss) if page.training else (None, "sft")
    unit = "nats per trained token" if loss == "sft" else f"loss of {loss}"
    drawings = {CURVE: draw_curve(page.curve, taken, unit)} if page.curve.losses else {}
    if page.suites:
        drawings[SUITES] = draw_suites(page.suites)
    images = {name: _data_url(svg) for name, svg in drawings.items()}
    return {
        PAGE: _environment(autoescape=True).get_template("page.html.jinja").render(page=page, images=images),
        CARD: _environment(autoescape=False).get_template("card.md.jinja").render(page=page, images=drawings.keys()),
        **drawings,
    }


def _environment(*, autoescape: bool) -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown if autoescape else _card_text,
    )
    found.filters |= FILTERS
    return found


def _shown(value: object) -> object:
    """A value as a page shows it, with hidden characters visible; None is nothing."""
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _card_text(value: object) -> object:
    """A value as Markdown shows it: on one line, and no character of it is markup."""
    if value is None or isinstance(value, Markup):
        return value or ""
    return MARKDOWN.sub(r"\\\1", visible(" ".join(str(value).split())))


def _data_url(svg: str) -> Markup:
    return Markup("data:image/svg+xml;base64,{}").format(base64.b64encode(svg.encode()).decode())
