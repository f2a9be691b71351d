"""Query every part of the stack at once; nothing here raises, and a part that is away costs at most TIMEOUT_S."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from deploy.cli.connect import bus, database, error_text, host_port
from deploy.cli.errors import UserError
from deploy.cli.queries.gateway import GatewayStatus, get_gateway_status
from deploy.cli.queries.rituals import ListedRitual, list_open_rituals
from deploy.embedded import stack
from deploy.embedded.part import PartStatus
from deploy.embedded.preflight import Finding, unisolated_finding
from deploy.services import SERVICES, load_configuration, service_url
from services.gateway.views import AnnouncedCapability, list_capabilities
from services.orchestrator.views import AnvilStatus, get_anvil_status
from services.registry.views import Served, list_served
from shared.config.errors import ConfigurationError
from shared.config.settings import SettingsError
from shared.contracts.job import isolation_text
from shared.drivers.inference.http import Http
from shared.drivers.inference.open import open_gate, open_rune
from shared.drivers.inference.port import AdmissionControl, Inference, InferenceError
from shared.ritual.views import get_last_isolation
from shared.runtime.presence import Isolation, JobIsolation, list_isolation
from shared.storage.artifacts import lacking_space

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.config.model import Configuration, RuneConfig
    from shared.config.settings import Settings

TIMEOUT_S = 5.0
HEALTH_TIMEOUT_S = 2.0
UNREADABLE = (InferenceError, ValueError, LookupError, TypeError)


@dataclass(frozen=True)
class RuneStatus:
    """What a rune answered. `closed` is why its admission is closed; None while it is open, or has none."""

    answers: bool
    models: tuple[str, ...] = ()
    closed: str | None = None


@dataclass(frozen=True)
class StackStatus:
    """What every part answered. `configuration` is None where it cannot be used, `anvils` where the ledger is away.

    `served` is what serves for each persona, `capabilities` is what the gateway announced.
    `processes` are those that the embedded stack supervises; empty where something else runs the parts.
    """

    parts: tuple[Finding, ...]
    configuration: Configuration | None
    runes: dict[str, RuneStatus]
    anvils: dict[str, AnvilStatus] | None
    open_rituals: tuple[ListedRitual, ...]
    processes: dict[str, PartStatus]
    served: tuple[Served, ...] = ()
    capabilities: tuple[AnnouncedCapability, ...] = ()


async def get_stack_status(settings: Settings) -> StackStatus:
    """Query every part at once."""
    configuration, faults = _load(settings)
    names = tuple(configuration.anvils) if configuration else ()
    (ledger, nats, runes), services = await asyncio.gather(
        asyncio.gather(_get_ledger(settings, names), _get_bus(settings), _get_runes(settings, configuration)),
        asyncio.gather(*(_get_service(settings, name) for name in SERVICES), _get_door(settings)),
    )
    finding, anvils, rituals, served, capabilities, jobs = ledger
    parts = (*faults, *_get_disk(settings, configuration), finding, nats, *services, *jobs)
    return StackStatus(parts, configuration, runes, anvils, rituals, _get_processes(settings), served, capabilities)


def _load(settings: Settings) -> tuple[Configuration | None, tuple[Finding, ...]]:
    """The configuration; a file that cannot be used is a finding, and the other parts are still queried."""
    try:
        return load_configuration(settings), ()
    except ConfigurationError as error:
        return None, (Finding("configuration", False, str(error)),)


def _get_disk(settings: Settings, configuration: Configuration | None) -> tuple[Finding, ...]:
    """A finding where too little disk space is left for a ritual."""
    lacking = configuration and settings.home.is_dir() and lacking_space(settings.home, configuration.runtime.min_free)
    return (Finding("disk", False, lacking),) if lacking else ()


async def _get_ledger(
    settings: Settings, names: tuple[str, ...]
) -> tuple[
    Finding,
    dict[str, AnvilStatus] | None,
    tuple[ListedRitual, ...],
    tuple[Served, ...],
    tuple[AnnouncedCapability, ...],
    tuple[Finding, ...],
]:
    try:
        async with asyncio.timeout(TIMEOUT_S), database(settings) as pool:
            anvils = {name: await get_anvil_status(pool, name) for name in names}
            rituals, served = tuple(await list_open_rituals(pool)), tuple(await list_served(pool))
            capabilities = tuple(await list_capabilities(pool))
            jobs = tuple(list_jobs(await list_isolation(pool), await get_last_isolation(pool)))
    except Exception as error:
        return Finding("postgres", False, _reason(error)), None, (), (), (), ()
    return (
        Finding("postgres", True, f"answers at {host_port(settings.database_url('owner'))}"),
        anvils,
        rituals,
        served,
        capabilities,
        jobs,
    )


def list_jobs(services: Mapping[str, JobIsolation], last: tuple[str, ...]) -> Iterator[Finding]:
    """How jobs are started, once a service recorded it; `last` is the isolation of the last job that ended."""
    refusing = [service for service, jobs in services.items() if jobs.isolation is Isolation.REFUSED]
    if refusing:
        yield Finding("jobs", False, f"{' and '.join(refusing)} cannot start jobs, so no ritual takes the anvil")
    elif unisolated := [jobs.why for jobs in services.values() if jobs.isolation is Isolation.UNISOLATED]:
        yield unisolated_finding("jobs", unisolated[0])
    elif services:
        walls = f"; the last one had: {isolation_text(last)}" if last else ""
        yield Finding("jobs", True, f"isolated{walls}")


async def _get_bus(settings: Settings) -> Finding:
    try:
        async with asyncio.timeout(TIMEOUT_S), bus(settings) as client:
            info = await client.jetstream().account_info()
    except Exception as error:
        return Finding("nats", False, _reason(error))
    return Finding("nats", True, f"answers at {host_port(settings.nats_url)}, {info.streams} streams")


async def _get_service(settings: Settings, name: str) -> Finding:
    url = service_url(settings, name)
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            answer = (await client.get(f"{url}/health/ready")).json()
    except (httpx.HTTPError, ValueError) as error:
        return Finding(name, False, f"does not answer at {host_port(url)} ({_reason(error)})")
    reasons = "; ".join(str(reason) for reason in answer.get("reasons", []))
    return Finding(name, bool(answer.get("ready")), reasons or "ready")


async def _get_door(settings: Settings) -> Finding:
    """Whether clients are answered, which the gateway does also while its service is away."""
    where = host_port(settings.gateway_url)
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            (await client.get(f"{settings.gateway_url}/health")).raise_for_status()
        async with asyncio.timeout(TIMEOUT_S):
            gateway = await get_gateway_status(settings)
    except (httpx.HTTPError, TimeoutError) as error:
        return Finding("door", False, f"does not answer at {where} ({_reason(error)}): no client is served")
    except (UserError, SettingsError) as error:
        return Finding("door", False, f"clients are answered at {where}, but {_reason(error)}")
    return Finding(
        "door",
        True,
        f"clients are answered at {settings.gateway_url}/v1 and {settings.door_socket}; {describe(gateway)}",
    )


def describe(gateway: GatewayStatus) -> str:
    """The gateway's table, gates and withdrawals, in a sentence."""
    parts = [f"its table of versions {gateway.table.table}"]
    for rune, gate in gateway.gates.items():
        closed = f" ({gate.reason})" if gate.reason else ""
        parts.append(f"{rune} {gate.state}{closed}, {gate.in_flight} in flight, {gate.waiting} waiting")
    if gateway.refused:
        refused = ", ".join(f"{version} ({why})" for version, why in sorted(gateway.refused.items()))
        parts.append(f"withdrawn: {refused}")
    return "; ".join(parts)


def _get_processes(settings: Settings) -> dict[str, PartStatus]:
    if not settings.home.is_dir():
        return {}
    return stack.status(settings)


def _reason(error: BaseException) -> str:
    if isinstance(error, UserError) or str(error).strip():
        return error_text(error)
    return f"no answer within {TIMEOUT_S:.0f} s"


async def _get_runes(settings: Settings, configuration: Configuration | None) -> dict[str, RuneStatus]:
    if configuration is None:
        return {}
    found = await asyncio.gather(
        *(
            get_rune(
                open_rune(configuration, settings, name),
                open_gate(settings, name),
                configuration.rune_url(settings, name),
                config,
            )
            for name, config in configuration.runes.items()
        )
    )
    return dict(zip(configuration.runes, found, strict=True))


async def get_rune(rune: Inference, gate: AdmissionControl, url: str, config: RuneConfig) -> RuneStatus:
    """Query one rune. A foreign engine that lists no models answers by its health path."""
    try:
        models = tuple(sorted(await rune.models()))
    except UNREADABLE:
        return RuneStatus(await _healthy(url, config.health))
    return RuneStatus(True, models, await _closed(gate))


async def _healthy(url: str, path: str) -> bool:
    try:
        return (await Http(url).ask("GET", path, timeout=HEALTH_TIMEOUT_S)).is_success
    except InferenceError:
        return False


async def _closed(gate: AdmissionControl) -> str | None:
    try:
        admission = await gate.admission()
    except UNREADABLE:
        return None
    return admission.detail if admission.closed else None
