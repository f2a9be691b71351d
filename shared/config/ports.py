"""The ports of runes that listen on one: their own, or the next free one of Soulforge's row of 32; and names of containers."""

from __future__ import annotations

from collections.abc import Mapping

from shared.config.settings import FIRST_RUNE_PORT, FIRST_SERVICE_PORT, PORT_OFFSETS, SERVICE_PORTS

ROW = 32
SERVICES = range(FIRST_SERVICE_PORT, FIRST_SERVICE_PORT + SERVICE_PORTS)
FREE = tuple(offset for offset in range(FIRST_RUNE_PORT, ROW) if offset not in SERVICES)


def assign(wanted: Mapping[str, int | None], base: int) -> dict[str, int]:
    """The port of each rune, in the order of the file. A rune that finds no place left is not in the answer."""
    free = [base + offset for offset in FREE if base + offset not in wanted.values()]
    found: dict[str, int] = {}
    for name, port in wanted.items():
        if port is None and free:
            port = free.pop(0)
        if port is not None:
            found[name] = port
    return found


def parts(base: int) -> dict[int, str]:
    """The ports of the other parts."""
    fixed = {base + offset: part for part, offset in PORT_OFFSETS.items()}
    return {**fixed, **{base + offset: "services" for offset in SERVICES}}


def container_name(anvil: str, rune: str) -> str:
    """The container of a rune, with every driver."""
    return f"rune-{anvil}-{rune}"
