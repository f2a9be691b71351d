"""The drawings of a report, as SVG with all glyphs drawn: they look the same wherever they are shown."""

from __future__ import annotations

import io
import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

from deploy.cli.views.manifest import DIM, INK
from shared.contracts.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from deploy.cli.queries.curve import Curve
    from deploy.cli.views.page.content import Suite

GOOD, BAD, DEV, BAND = "#1a7f37", "#cf222e", "#bc4c00", "#d0d7de"
WIDTH_IN = 9.0
MOST_POINTS = 1500
WINDOW = 10  # steps of the mean that is drawn over the single losses
STYLE: Any = {
    # Text comes from outside: `$` begins no formula.
    "text.parse_math": False,
    "svg.hashsalt": "soulforge",  # the same figures give the same file
    "axes.edgecolor": BAND,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "font.size": 9,
}


def draw_curve(curve: Curve, taken: int | None, unit: str) -> str:
    """Train loss with its mean, dev loss, and checkpoints; `taken` is the step whose adapter is kept."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 3.4), layout="constrained")
        axes = figure.subplots()
        steps = sorted(curve.losses)[:: math.ceil(max(len(curve.losses), 1) / MOST_POINTS)]
        axes.plot(steps, [curve.losses[step] for step in steps], color=BAND, linewidth=1, label="train loss of a step")
        axes.plot(steps, _means(curve, steps), color=INK, linewidth=1.5, label=f"its mean over {WINDOW} steps")
        measured = sorted(curve.dev_losses)
        axes.plot(measured, [curve.dev_losses[step] for step in measured], color=DEV, marker="o", label="dev loss")
        for step in curve.saved:
            axes.axvline(step, color=BAND, linewidth=0.8, linestyle=":")
        if taken:
            axes.axvline(taken, color=GOOD, linewidth=1.5, linestyle="--", label=f"adapter taken, step {taken}")
        axes.set(xlabel="step (dotted: checkpoints)", ylabel=unit, ylim=(min(0.0, *curve.losses.values()), None))
        axes.legend(frameon=False)
        return _svg(figure)


def _means(curve: Curve, steps: Sequence[int]) -> list[float]:
    ordered = sorted(curve.losses)
    places = {step: place for place, step in enumerate(ordered)}
    return [
        fmean(curve.losses[at] for at in ordered[max(places[step] - WINDOW + 1, 0) : places[step] + 1])
        for step in steps
    ]


def draw_suites(suites: Sequence[Suite]) -> str:
    """Each suite's gain as an interval against the bound that it must be above; each on an axis of its own unit."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.95 * len(suites)), layout="constrained")
        for axes, suite in zip(figure.subplots(len(suites), squeeze=False)[:, 0], suites, strict=True):
            _draw_suite(axes, suite)
        return _svg(figure)


def _draw_suite(axes: Axes, suite: Suite) -> None:
    colour = GOOD if suite.good else BAD
    shown = [value for value in (suite.low, suite.gain, suite.high, suite.bound, 0.0) if value is not None]
    room = 0.08 * (max(shown) - min(shown) or 1.0)
    axes.set(xlim=(min(shown) - room, max(shown) + room), ylim=(-1, 1), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=BAND, linewidth=1)
    axes.axvline(suite.bound, color=BAD, linewidth=1.2, linestyle="--")
    if suite.low is not None and suite.high is not None:
        axes.plot([suite.low, suite.high], [0, 0], color=colour, linewidth=3, solid_capstyle="butt")
    axes.plot([suite.gain], [0], color=colour, marker="o", markersize=7)
    axes.set_ylabel(visible(suite.name), rotation=0, ha="right", va="center")
    axes.set_xlabel(suite.unit, loc="right", labelpad=-2)
    axes.text(1.01, 0.5, visible(suite.state), transform=axes.transAxes, color=colour, va="center")


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
