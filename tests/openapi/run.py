"""Schemathesis against the door, by its OpenAPI document: `python -m tests.openapi.run` (`make test-openapi`).

First over an engine that answers, then over one that is closed, each without a key and with one that may do everything: no 5xx
but 503, no answer that is not documented, and no request or connection left behind. Schemathesis has an environment of its own
(`requirements/openapi.lock`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from deploy.services import load_configuration
from services.gateway.keys.key import Key, hash_secret
from services.gateway.metrics import CONNECTIONS
from services.gateway.servers import open_door
from services.gateway.table import Persona, Table, Version
from shared.config.settings import ENGINE_SOCKET, PROJECT, Settings
from shared.contracts.scopes import Scope
from shared.drivers.inference.open import open_gate
from tests.support.configurations import configured
from tests.support.fakes.engines import fake_engine, until
from tests.support.gateways import BASE, serves, tables_of
from tests.support.servers import free_port_base

DOCUMENT = PROJECT / "docs" / "openapi" / "gateway.json"
RUNE = "rune0"
SERVED, WITHDRAWN, TROUBLED = "scribe@aaa", "scribe@bbb", "scribe@ccc"
NAMES = [BASE, "scribe", SERVED, WITHDRAWN, TROUBLED, "coder", "unknown"]
REFUSALS = {400, 401, 403, 404, 409, 415, 503}
SECRET = "sk-soulforge-of-a-test"
BEARING = ("--header", f"Authorization: Bearer {SECRET}")
ESTIMATE_S = 900.0  # so long that no request waits
# Against web pages, what is not for reading must be JSON or have a key, whatever its path: 415 comes before 405, 401 and 403. A
# valid request gets 400 where it has an integer beyond 64 bits, and 401 where it has a key that is none of ours. A client of this
# machine is known without a key, as one that may chat: what needs more answers it with 403, where Schemathesis insists on 401.
CONFIGURATION = """
[[operations]]
include-method = "GET"
checks.unsupported_method.enabled = false
[[operations]]
include-path-regex = "^/v1/(files|fine_tuning)"
checks.unsupported_method.enabled = false
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 415, 503]
[checks]
not_a_server_error.expected-statuses = ["2xx", "4xx", 503]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 415, 503]
positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 503]
missing_required_header.enabled = false
"""


@dataclass(frozen=True)
class Report:
    """How many requests it sent, in how many seconds, and how those for tokens or embeddings were answered, by status."""

    requests: int
    seconds: float
    posted: dict[int, int]


def table() -> Table:
    """A persona that is served, one for which nothing serves, a version that was withdrawn, and one that cannot serve."""
    now = datetime.now(UTC)
    versions = [
        Version(name=name, persona="scribe", adapter=f"sha256:{name}", ritual=uuid4(), registered_at=now, **why)
        for name, why in (
            (SERVED, {"trouble": None}),
            (WITHDRAWN, {"trouble": None, "withdrawn": "it gossips"}),
            (TROUBLED, {"trouble": "its bundle is not readable"}),
        )
    ]
    personas = {
        "scribe": Persona(version=SERVED, trouble=None),
        "coder": Persona(version=None, trouble="no version is promoted"),
    }
    return Table(read_at=time.time(), personas=personas, versions={one.name: one for one in versions})


def document() -> str:
    """The document, with the names that mean something here: others are tried as invalid ones, and answered 404."""
    found = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    found["components"]["schemas"]["Name"]["enum"] = NAMES
    return json.dumps(found)


async def schemathesis(program: Path, url: str, cases: int, seed: int, *options: str) -> Report:
    """Run it with so many cases per operation and phase. Raises SystemExit where it finds something."""
    with tempfile.TemporaryDirectory(prefix="schemathesis-") as folder:
        Path(folder, "document.json").write_text(document(), encoding="utf-8")
        Path(folder, "schemathesis.toml").write_text(CONFIGURATION, encoding="utf-8")
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(program, "run", "document.json", "--url", url, "--continue-on-failure", "--request-timeout", "10"),
            *("--max-examples", str(cases), "--seed", str(seed), "--report", "har", "--report-har-path", "calls.har"),
            *options,
            cwd=folder,
        )
        if code := await process.wait():
            raise SystemExit(code)
        entries = json.loads(Path(folder, "calls.har").read_text(encoding="utf-8"))["log"]["entries"]
    posted = Counter(one["response"]["status"] for one in entries if one["request"]["method"] == "POST")
    return Report(len(entries), round(time.monotonic() - began, 1), dict(sorted(posted.items())))


async def run(program: Path, cases: int, seed: int) -> dict[str, Report]:
    """Schemathesis over an open engine, and over a closed one, without a key and with one."""
    with tempfile.TemporaryDirectory(prefix="openapi-") as name:
        home = Path(name)
        settings = Settings(home=home, port_base=free_port_base())
        personas = {persona: {"away": "refuse"} for persona in table().personas}
        own = configured(settings, home, **tables_of(1, home, {}), personas=personas)
        async with (
            fake_engine(socket=settings.make_engine_dir(RUNE) / ENGINE_SOCKET, token_s=0, base=BASE) as engine,
            open_door(own, load_configuration(own)) as door,
        ):
            gate = open_gate(own, RUNE)
            await gate.open()
            await door.set_table(table())
            await engine.vllm.load(SERVED, home)
            await serves(own.gateway_url, BASE, SERVED)
            await door.set_keys(
                [Key(id="key-1", name="ada", hash=hash_secret(SECRET), scopes=frozenset({Scope.ADMIN}))]
            )
            report = {}
            for state in ("open", "closed"):
                if state == "closed":
                    await gate.close("training scribe", ESTIMATE_S)
                report[state] = await schemathesis(program, own.gateway_url, cases, seed)
                report[f"{state}, with a key"] = await schemathesis(program, own.gateway_url, cases, seed, *BEARING)
            await until(lambda: CONNECTIONS._value.get() == 0)
            assert not (await engine.vllm.activity()).left
    for way in ("open", "open, with a key", "closed, with a key"):
        assert report[way].posted.keys() >= {200, *REFUSALS}, (
            report
        )  # with a key versions are withdrawn, also while it is closed
    assert report["closed"].posted.keys() == REFUSALS, report
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, default=PROJECT / ".venv-openapi" / "bin" / "schemathesis")
    parser.add_argument("--cases", type=int, default=100, help="per operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    report = asyncio.run(run(options.program, options.cases, options.seed))
    sys.stdout.write(json.dumps({state: asdict(one) for state, one in report.items()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
