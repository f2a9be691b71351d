"""What a fact says, in a few words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy.cli.format import duration, size

if TYPE_CHECKING:
    from collections.abc import Callable

Body = dict[str, Any]


def saying(subject: str, body: Body) -> str:
    """One line about a fact; facts of an earlier version may lack fields."""
    say = _SAYINGS.get(subject)
    return " ".join((say(body) if say else _reason(body)).split())


def _harvested(body: Body) -> str:
    left_out = sum(body.get("excluded", {}).values())
    counts = f"{body.get('train', '?')} to train, {body.get('dev', '?')} for dev, {body.get('held_out', '?')} sealed"
    return f"{counts}; {left_out} left out" if left_out else counts


def _evacuated(body: Body) -> str:
    figures = (f"{body[name]} {name}" for name in ("drained", "aborted") if body.get(name))
    requests = ", ".join(figures)
    memory = f"memory {size(body.get('memory_before'))} → {size(body.get('memory_after'))}"
    return f"{memory}; requests: {requests}" if requests else memory


def _forged(body: Body) -> str:
    training = body.get("training", {})
    said = [f"{training['steps']} steps"] if "steps" in training else []
    before, after = training.get("dev_loss_before"), training.get("dev_loss_after")
    if before is not None and after is not None:
        said.append(f"dev loss {before:.3f} → {after:.3f}")
    if speed := training.get("tokens_per_s"):
        said.append(f"{speed:.0f} tokens/s")
    return ", ".join(said) or f"adapter {body.get('adapter', '?')}"


def _judged(body: Body) -> str:
    return str(body.get("decision", "judged"))


def _banished(body: Body) -> str:
    # The reasons stand in the verdict below.
    return f"the verdict is {_judged(body)}"


def _restored(body: Body) -> str:
    said = [f"after {duration(body.get('seconds_without_inference'))} without inference"]
    if (equal := body.get("probes_equal")) is not None:
        said.append("every model answers as before" if equal else "models answer otherwise than before")
    if missing := body.get("missing"):
        said.append(f"missing: {', '.join(missing)}")
    return "; ".join(said)


def _interrupted(body: Body) -> str:
    return f"asked for: {_reason(body)}" if body.get("asked") else _reason(body)


def _registered(body: Body) -> str:
    return str(body.get("version", ""))


def _awakened(body: Body) -> str:
    return f"{body.get('alias')} answers as {body.get('version')}, proven by {body.get('probes')} probes"


def _reason(body: Body) -> str:
    return str(body.get("reason") or body.get("why") or "")


_SAYINGS: dict[str, Callable[[Body], str]] = {
    "karma.harvested": _harvested,
    "gpu.evacuated": _evacuated,
    "adapter.forged": _forged,
    "adapter.verified": _judged,
    "adapter.banished": _banished,
    "gpu.restored": _restored,
    "gpu.interrupted": _interrupted,
    "adapter.registered": _registered,
    "adapter.awakened": _awakened,
}
