"""Close, open and abort an engine: by our gate where it has one, else by vLLM's own pause, else not at all."""

from __future__ import annotations

from typing import Any

from shared.drivers.inference.http import Http, refusal
from shared.drivers.inference.port import Admission, InferenceError, Means

GATE = "/soulforge/gate"
ABORT_TIMEOUT_S = 30.0
# `/pause?mode=wait` answers only when the engine is empty: it is sent, and its answer not waited for.
SEND_S = 2.0
ABSENT = frozenset({404, 405})
NO_MEANS = (
    "it has no gate: start vLLM with --middleware shared.drivers.inference.gate.asgi.Gate and PYTHONPATH at the project"
)
HELD = "vLLM is paused: new requests wait inside it without an answer"


async def gate_state(http: Http) -> dict[str, Any] | None:
    """The gate's state; None where the engine has no gate."""
    return await _optional(http, "GET", GATE)


async def now(http: Http) -> Admission:
    if (state := await gate_state(http)) is not None:
        return _admission(state)
    held = await paused(http)
    return Admission(closed=held, means=Means.PAUSE if held else Means.NONE, detail=HELD if held else NO_MEANS)


async def close(http: Http, reason: str, retry_after_s: float) -> Admission:
    state = await _optional(http, "POST", f"{GATE}/close", {"reason": reason, "retry_after_s": retry_after_s})
    if state is not None:
        return _admission(state)
    if not await _pausable(http):
        return Admission(closed=False, means=Means.NONE, detail=NO_MEANS)
    await _pause_and_wait(http)
    return Admission(closed=await paused(http), means=Means.PAUSE, detail=HELD)


async def readmit(http: Http) -> Admission:
    state = await _optional(http, "POST", f"{GATE}/open")
    if state is not None:
        return _admission(state)
    if await _optional(http, "POST", "/resume") is None:
        return Admission(closed=False, means=Means.NONE, detail=NO_MEANS)
    return Admission(closed=await paused(http), means=Means.PAUSE, detail="vLLM was resumed")


async def leave(http: Http) -> bool:
    state = await _optional(http, "POST", f"{GATE}/leave")
    return bool(state and state["left"])


async def abort_at_gate(http: Http) -> int | None:
    """Abort at the gate and return how many requests; None where the engine has no gate."""
    state = await _optional(http, "POST", f"{GATE}/abort", timeout=ABORT_TIMEOUT_S)
    return None if state is None else int(state["aborted"])


async def abort_in_engine(http: Http) -> bool:
    """Abort what vLLM is computing, and pause it; False where it cannot. Clients get truncated answers."""
    return await _optional(http, "POST", "/pause?mode=abort", timeout=ABORT_TIMEOUT_S) is not None


async def paused(http: Http) -> bool:
    """True while vLLM's own pause holds new requests back."""
    state = await _optional(http, "GET", "/is_paused")
    return bool(state and state["is_paused"])


async def _pausable(http: Http) -> bool:
    return await _optional(http, "GET", "/is_paused") is not None


async def _pause_and_wait(http: Http) -> None:
    try:
        await http.call("POST", "/pause?mode=wait", timeout=SEND_S)
    except InferenceError:
        if not await paused(http):
            raise


async def _optional(
    http: Http, method: str, path: str, body: dict[str, Any] | None = None, timeout: float = 10.0
) -> Any | None:
    """Call a route that not every engine has; None where this one does not have it."""
    response = await http.ask(method, path, body, timeout)
    if response.status_code in ABSENT:
        return None
    if response.is_error:
        raise refusal(response)
    return response.json()


def _admission(state: dict[str, Any]) -> Admission:
    closed = state["state"] == "closed"
    detail = f"closed since {state['since']}: {state['reason']}" if closed else "the gate is open"
    return Admission(closed=closed, means=Means.GATE, detail=detail)
