"""Measure and print: `python -m bench.gateway [stub|vllm …] [--rounds N]`.

Each round asks the upstream itself and then the gateway before it, so that what else the machine does meets both. The ratio
of throughputs is that of the medians of the rounds; beside it is how much the upstream varies against itself. `stub` answers at
once; `vllm` is the installation's, asked for its base and for an adapter.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.gateway import stub
from bench.gateway.load import CLIENTS, Place, Sample, measure, median_ms, p99_ms
from shared.config.settings import ENGINE_SOCKET, PROJECT, Settings
from shared.config.tables import EMBEDDED_BASE
from shared.drivers.inference.open import open_gate
from shared.storage.postgres import open_pool
from tests.support.adapters import save_adapter
from tests.support.configurations import configured
from tests.support.gateways import Gateway, serves, tables_of
from tests.support.orchestrated import orchestrated
from tests.support.servers import House, house

MODELS = PROJECT / ".cache" / "models"
UP_S = 400
STUB_REQUESTS, VLLM_REQUESTS, TOKENS = 2000, 32, 16


@asynccontextmanager
async def process(*words: str, **environment: str) -> AsyncIterator[None]:
    with tempfile.TemporaryFile() as log:
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *words, env={**os.environ, **environment}, cwd=PROJECT, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            started.terminate()
            await started.wait()


@asynccontextmanager
async def gateway(settings: Settings, *models: str) -> AsyncIterator[None]:
    """The gateway in a process of its own, once it lists these models as loaded."""
    environment = {
        "SOULFORGE_HOME": str(settings.home),
        "SOULFORGE_PORT_BASE": str(settings.port_base),
        "SOULFORGE_CONFIG": str(settings.config),
        "SOULFORGE_MODELS": str(settings.models_dir),
    }
    async with process("deploy.bootstrap", "gateway", **environment):
        await serves(settings.gateway_url, *models)
        yield


async def bench_stub(one: House, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="soulforge-bench-") as folder:
        own = configured(one.settings, Path(folder), **tables_of(1, Path(folder), {}))
        socket = own.make_engine_dir("rune0") / ENGINE_SOCKET
        async with process("bench.gateway.stub", str(socket)), gateway(own, stub.BASE):
            await open_gate(own, "rune0").open()
            direct = Place("stub", f"unix://{socket}", stub.BASE)
            through = Place("gateway", own.gateway_url, stub.BASE)
            for streamed in (False, True):
                await compare(direct, through, rounds, STUB_REQUESTS, stub.CHUNKS, streamed)
                await compare(direct, through, rounds, STUB_REQUESTS // 4, stub.CHUNKS, streamed, clients=1)


async def bench_vllm(one: House, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="soulforge-bench-") as folder:
        async with orchestrated(one.settings, Path(folder), MODELS, gateway=True) as ours:
            ours.configure(real=True, start_within_s=float(UP_S))
            pool = await open_pool(one.settings.database_url("bootstrap"), "public", size=1)
            async with pool:
                rows = Gateway(ours.settings, pool, Path(folder))
                version, _ = await rows.add_version("scribe", "bench", load=False)
                await rows.move_alias("scribe", version)
            async with gateway(ours.settings):
                await ours.start()
                await ours.eventually(ours.serves, UP_S, "vLLM serves")
                await ours.rune.load(version, save_adapter(one.settings.home / "crypt" / "bench", value=0.1))
                await serves(ours.settings.gateway_url, "scribe", EMBEDDED_BASE)
                await against_vllm(ours.settings, ours.rune.url, version, rounds)


async def against_vllm(settings: Settings, url: str, version: str, rounds: int) -> None:
    base = Place("vLLM, base", url, EMBEDDED_BASE)
    adapter = Place("vLLM, adapter", url, version)
    for place in (base, adapter):
        await measure(place, VLLM_REQUESTS // 2, TOKENS, streamed=False)  # warm
    for streamed in (False, True):
        through = Place("gateway, adapter", settings.gateway_url, "scribe")
        await compare(adapter, through, rounds, VLLM_REQUESTS, TOKENS, streamed)
        # Eight clients share the engine's batches, whose rounding hides a millisecond; one has them to itself.
        await compare(adapter, through, rounds, VLLM_REQUESTS // 2, TOKENS, streamed, clients=1)
    await compare(base, adapter, rounds, VLLM_REQUESTS, TOKENS, streamed=False)


async def compare(
    one: Place, other: Place, rounds: int, requests: int, tokens: int, streamed: bool, clients: int = CLIENTS
) -> None:
    """Measure both in turn, and print what the second costs beyond the first."""
    ones: list[Sample] = []
    others: list[Sample] = []
    for number in range(rounds):
        order = ((one, ones), (other, others)) if number % 2 == 0 else ((other, others), (one, ones))
        for place, samples in order:
            samples.append(await measure(place, requests, tokens, streamed, clients))
    how = f"{'streamed' if streamed else 'whole'}, {clients} clients, {rounds} rounds of {requests} requests"
    print(f"\n{other.name} against {one.name}: {how}")
    for place, samples in ((one, ones), (other, others)):
        whole, first = (
            [s for sample in samples for s in sample.whole_s],
            [s for sample in samples for s in sample.first_s],
        )
        spread = [sample.per_s for sample in samples]
        print(
            f"  {place.name:18} {statistics.median(spread):8.1f} requests/s ({min(spread):.1f} to {max(spread):.1f}), "
            f"median {median_ms(whole):.2f} ms, p99 {p99_ms(whole):.2f} ms, first byte {median_ms(first):.2f} ms"
        )
    ratio = statistics.median(s.per_s for s in others) / statistics.median(s.per_s for s in ones)
    whole_ms, first_ms = (
        median_ms([s for sample in others for s in getattr(sample, kind)])
        - median_ms([s for sample in ones for s in getattr(sample, kind)])
        for kind in ("whole_s", "first_s")
    )
    print(f"  throughput × {ratio:.3f}, added median {whole_ms:+.2f} ms, first byte {first_ms:+.2f} ms", flush=True)


BENCHES = {"stub": bench_stub, "vllm": bench_vllm}


async def main(names: Sequence[str], rounds: int) -> None:
    for name in names:
        async with house() as one:
            await BENCHES[name](one, rounds)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__)
    # Not `choices`: for an optional argument argparse checks the default list as if it were one choice.
    parser.add_argument("upstreams", nargs="*", type=_upstream, default=list(BENCHES), metavar="|".join(BENCHES))
    parser.add_argument("--rounds", type=int, default=6, help="rounds of each comparison; default: 6")
    return parser.parse_args(arguments)


def _upstream(name: str) -> str:
    if name not in BENCHES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(BENCHES)}")
    return name


if __name__ == "__main__":
    given = parse()
    asyncio.run(main(given.upstreams, given.rounds))
