"""Decisions about the versions of one persona, on two bases whose engines answer at once."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from services.registry.decisions import decide
from services.registry.policy import Aliases
from services.registry.reconcile import Registry
from services.registry.settings import RegistrySettings
from shared.config.tables import PersonaConfig
from shared.contracts.message import Fact
from shared.contracts.registry import Action, AdapterDecide
from shared.contracts.ritual import State
from shared.ritual import ledger
from shared.storage.postgres import Pool
from tests.support.crypts import TwoBases, crypt, two_bases

__all__ = ["crypt", "two_bases"]  # the fixtures


@pytest.fixture
async def bases(two_bases: TwoBases) -> TwoBases:
    """Two bases whose engines answer at once."""
    two_bases.fail(token_s=0.0)
    return two_bases


def registry_of(bases: TwoBases, persona: PersonaConfig | None = None) -> Registry:
    configuration = bases.context.configuration.model_copy(update={"personas": {"scribe": persona or PersonaConfig()}})
    return Registry(replace(bases.context, configuration=configuration), RegistrySettings())


async def decided(crypt: Pool, action: Action, version: str | None, champion: str | None, **more: object) -> Aliases:
    asked = AdapterDecide.model_validate(
        {"action": action, "persona": "scribe", "version": version, "champion": champion, "by": "me", **more}
    )
    async with crypt.acquire() as conn, conn.transaction():
        return await decide(conn, asked)


async def end_of(crypt: Pool, ritual: UUID, kind: type[Fact]) -> tuple[State, Fact | None]:
    found = await ledger.get_ritual(crypt, ritual)
    assert found
    return found.state, await ledger.get_fact(crypt, ritual, kind)
