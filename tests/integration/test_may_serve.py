"""Which versions may serve: the registry, its views and the gateway read it from one view, and agree."""

from __future__ import annotations

import pytest

from services.gateway.errors import Refusal
from services.gateway.names import resolve
from services.gateway.table import query_table
from services.gateway.withdrawals import Withdrawals
from services.registry import store, views
from services.registry.decisions import get_standing
from shared.config.settings import Settings
from shared.storage.postgres import Pool, open_pool
from tests.support.gateways import Gateway

OLD, NEW, TWIN = "scribe@aaa", "scribe@bbb", "coder@bbb2"
BANISH = (
    "INSERT INTO public.ritual_fact (event_id, ritual, subject, step, owner, attempt, state_before, state_after, body, started_at) "
    "SELECT gen_random_uuid(), ritual, 'adapter.banished', 's', 'verifier', 1, 'a', 'b', "
    f"""'{{"adapter": "sha256:bbb"}}', now() FROM registry.version WHERE name = '{OLD}'"""
)
WITHDRAW = "UPDATE registry.version SET withdrawn_at = now() - interval '{} min' WHERE name = '{}'"
OVERRIDE = "UPDATE registry.version SET withdrawn_at = NULL, overridden_at = now() WHERE name = '{}'"
TAINT = f"INSERT INTO registry.taint (ritual, karma) SELECT ritual, 'k' FROM registry.version WHERE name = '{NEW}'"
ACTED_ON = "UPDATE registry.taint SET announced_at = now()"
FAULT = "INSERT INTO registry.fault (version, reason) VALUES ('{}', 'its bundle is damaged')"


@pytest.mark.parametrize(
    ("written", "scribe", "coder", "withdrawn"),
    [
        ([], NEW, TWIN, None),
        ([WITHDRAW.format(1, NEW)], OLD, None, "no reason was given"),
        ([WITHDRAW.format(1, TWIN)], OLD, None, "no reason was given"),
        ([BANISH], OLD, None, "banished"),
        ([TAINT], OLD, None, "consent"),
        ([TAINT, ACTED_ON], NEW, TWIN, None),
        ([WITHDRAW.format(1, TWIN), OVERRIDE.format(NEW)], NEW, TWIN, None),
        ([OVERRIDE.format(NEW), WITHDRAW.format(-1, TWIN)], OLD, None, "no reason was given"),
        ([BANISH, OVERRIDE.format(TWIN)], NEW, TWIN, None),
        ([BANISH, OVERRIDE.format(NEW), TAINT], OLD, None, "consent"),
        ([BANISH, WITHDRAW.format(1, OLD)], None, None, "banished"),
        ([FAULT.format(NEW)], OLD, TWIN, None),
        ([FAULT.format(NEW), WITHDRAW.format(1, OLD)], None, TWIN, None),
    ],
)
async def test_the_registry_and_the_gateway_agree_on_what_serves(
    written: list[str], scribe: str | None, coder: str | None, withdrawn: str | None, settings: Settings, admin: Pool
) -> None:
    rows = Gateway(settings, admin, settings.home)
    for persona, digest in (("scribe", "aaa"), ("scribe", "bbb"), ("coder", "bbb2")):
        name, _ = await rows.add_version(persona, digest, load=False)
        await rows.move_alias(persona, name)
    await admin.execute("UPDATE registry.version SET adapter = 'sha256:bbb' WHERE name = $1", TWIN)

    for statement in written:
        assert (await admin.execute(statement)).split()[-1] == "1"

    serving = {"scribe": scribe, "coder": coder}
    assert {one.persona: one.version for one in await views.list_served(admin)} == serving
    async with await open_pool(settings.database_url("gateway"), "gateway", size=1) as pool, pool.acquire() as conn:
        table = await query_table(conn)
    found = Withdrawals(settings.home, table).find
    for persona, version in serving.items():
        if version:
            assert resolve(table, (), persona, found).model == version
            continue
        with pytest.raises(Refusal) as refused:
            resolve(table, (), persona, found)
        assert refused.value.status == (403 if withdrawn else 503)
    async with await open_pool(settings.database_url("registry"), "registry", size=1) as pool, pool.acquire() as conn:
        for name in (NEW, TWIN):
            standing = await get_standing(conn, name)
            assert standing and (withdrawn in (standing.withdrawn or "") if withdrawn else standing.withdrawn is None)
        desired = {one.name for one in await store.list_desired(conn)}
        listed = {one.name for one in await views.list_versions(conn) if "withdrawn" in one.roles}
    assert desired.isdisjoint({NEW, TWIN} if withdrawn else ())
    assert listed >= ({NEW, TWIN} if withdrawn else set()) and listed.isdisjoint(desired)
