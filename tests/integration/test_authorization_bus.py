"""What each role may do on the bus, tried on the real nats-server: every role with every subject, call and consumer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import nkeys
import pytest
from nats.aio.client import Client
from pydantic import ValidationError

from deploy.cli.main import run
from deploy.embedded import nats
from deploy.services import SERVICES, subscriptions
from shared.config.settings import Settings
from shared.contracts.intent import RitualCancel
from shared.contracts.queue import HOLDS_STREAM, HOLDS_SUBJECTS
from shared.contracts.roles import PUBLISHERS, Role
from shared.drivers.queues import holds
from shared.messaging.client import inbox_of
from shared.messaging.streams import SOUL, STREAMS, declare, stream_of
from tests.support.authorization import Attempt, compare
from tests.support.raw_bus import RawConnection, raw_connection
from tests.support.servers import use_database

ANONYMOUS, UNKNOWN = "no key", "a foreign key"
TITLE = "Who may do what on the bus"
ABOUT = """\
Roles and their keys: [ADR 21](../adr/0021-who-may-do-what.md). Tried on the real nats-server by
`tests/integration/test_authorization_bus.py`, which compares this table with what the server let through. A call of
JetStream's API or of a consumer is a publication on a subject; names without a verb are the ends of `$JS.API.`."""

CALLS = ("INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.CREATE.OTHER")
CALLS_ON_STREAM = ("INFO", "MSG.GET", "MSG.DELETE", "SNAPSHOT", "CREATE", "UPDATE", "PURGE", "DELETE")
STREAM_NAMES = [stream.name for stream in STREAMS]
SUBSCRIPTIONS = (">", "_INBOX.>", "$JS.API.>", "$JS.ACK.>", "$JS.EVENT.ADVISORY.>", "$SYS.>", "$KV.>")


@dataclass(frozen=True)
class Operation:
    """One row of the table. It is tried in every way; all must be allowed, or none."""

    name: str
    ways: tuple[Callable[[RawConnection], None], ...]


def publish(subject: str, reply: str = "") -> Callable[[RawConnection], None]:
    return lambda connection: connection.publish(subject, reply=reply)


def subscribe(subject: str) -> Callable[[RawConnection], None]:
    return lambda connection: connection.subscribe(subject)


def operations() -> Iterator[Operation]:
    yield Operation("connect", (lambda _: None,))
    for message in PUBLISHERS:
        yield Operation(f"publish `{message.subject}`", (publish(message.subject),))
    for message in PUBLISHERS:
        yield Operation(f"subscribe `{message.subject}`", (subscribe(message.subject),))
    for subject in SUBSCRIPTIONS:
        yield Operation(f"subscribe `{subject}`", (subscribe(subject),))
    for role in Role:
        yield Operation(f"read the answers to {role}", (subscribe(f"{inbox_of(role)}.>"),))
    for role in Role:
        yield Operation(f"answer {role}", (publish(f"{inbox_of(role)}.some.request"),))
    yield Operation("hold a queue", (publish(HOLDS_SUBJECTS.replace(">", "anvil0/1")),))
    yield Operation("ask the system account", (publish("$SYS.REQ.SERVER.PING", "_INBOX.a"),))
    yield from consumer_operations()
    for call in CALLS:
        yield Operation(f"`{call}`", (publish(f"$JS.API.{call}"),))
    for stream in STREAM_NAMES:
        yield Operation(f"`DIRECT.GET.{stream}`", (publish(f"$JS.API.DIRECT.GET.{stream}"),))
        for call in CALLS_ON_STREAM:
            yield Operation(f"`STREAM.{call}.{stream}`", (publish(f"$JS.API.STREAM.{call}.{stream}"),))


def consumer_operations() -> Iterator[Operation]:
    for service in SERVICES:
        own = [f"{one.stream}.{one.durable}" for one in subscriptions([service])]
        acks = [f"$JS.ACK.{name}.1.1.1.1.0" for name in own]
        yield Operation(
            f"pull what {service} consumes", tuple(publish(f"$JS.API.CONSUMER.MSG.NEXT.{name}") for name in own)
        )
        yield Operation(f"acknowledge what {service} consumes", tuple(publish(ack) for ack in acks))
        yield Operation(
            f"let the server acknowledge what {service} consumes",
            tuple(publish("training.intent", ack) for ack in acks),
        )
        for call in ("INFO", "PAUSE", "RESET", "DELETE"):
            yield Operation(
                f"`CONSUMER.{call}` of {service}", tuple(publish(f"$JS.API.CONSUMER.{call}.{name}") for name in own)
            )
    for call in ("CREATE", "DURABLE.CREATE"):
        yield Operation(
            f"`CONSUMER.{call}`",
            tuple(publish(f"$JS.API.CONSUMER.{call}.{stream}.spy") for stream in STREAM_NAMES),
        )
    yield Operation("`CONSUMER.LIST`", tuple(publish(f"$JS.API.CONSUMER.LIST.{stream}") for stream in STREAM_NAMES))


async def is_allowed(connection: RawConnection, operation: Operation) -> bool:
    allowed = set()
    for way in operation.ways:
        way(connection)
        allowed.add(not await connection.refusals())
    assert len(allowed) == 1, f"{operation.name}: some of it is allowed"
    return allowed.pop()


async def try_all(settings: Settings, foreign: Path) -> list[Attempt]:
    """Every operation as every role, in the order of the operations: the last ones delete the streams."""
    attempts = []
    async with AsyncExitStack() as stack:
        known = {
            role: await stack.enter_async_context(raw_connection(settings, settings.bus_key(role))) for role in Role
        }
        for operation in operations():
            # The server closes a connection that it refuses, so each attempt of these has one of its own.
            for name, key in ((ANONYMOUS, None), (UNKNOWN, foreign)):
                async with raw_connection(settings, key) as connection:
                    attempts.append(Attempt(name, operation.name, await is_allowed(connection, operation)))
            attempts += [
                Attempt(role, operation.name, await is_allowed(connection, operation))
                for role, connection in known.items()
            ]
    return attempts


async def test_every_role_may_do_what_the_table_says_and_nothing_else(
    settings: Settings, client: Client, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.nk"
    foreign.write_bytes(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER))
    try:
        attempts = await try_all(settings, foreign)
    finally:
        await declare(client.jetstream(), subscriptions())

    compare("bus", TITLE, ABOUT, attempts)


async def test_what_is_refused_reaches_no_stream(settings: Settings, client: Client) -> None:
    for role in Role:
        async with raw_connection(settings, settings.bus_key(role)) as connection:
            for message in PUBLISHERS:
                connection.publish(message.subject)
            await connection.refusals()

    end = "adapter.end"
    await client.jetstream().publish(end, timeout=30)  # when it is acknowledged, all before it is stored
    stored = (await client.jetstream().stream_info(SOUL, subjects_filter=">")).state.subjects or {}
    assert stored.pop(end) == 1
    assert stored == {message.subject: len(roles) for message, roles in PUBLISHERS.items() if message.subject in stored}
    assert len(stored) > 18


def test_what_a_publisher_brings_shares_no_stream_with_facts_and_commands_of_the_owner() -> None:
    mixed = {stream_of(message) for message, roles in PUBLISHERS.items() if Role.PUBLISHER in roles}
    apart = {stream_of(message) for message, roles in PUBLISHERS.items() if Role.PUBLISHER not in roles}

    assert mixed and apart == {SOUL} and SOUL not in mixed


async def test_what_the_server_answers_on_a_subject_of_others_is_no_message_of_theirs(
    settings: Settings, client: Client
) -> None:
    """The server checks who publishes, not where its own answer is to go."""
    asked = [(Role.PUBLISHER, RitualCancel.subject)]
    asked += [(Role.WORKER, f"$JS.API.STREAM.{call}.{HOLDS_STREAM}") for call in ("INFO", "MSG.GET")]
    for role, subject in asked:
        async with raw_connection(settings, settings.bus_key(role)) as connection:
            for message in PUBLISHERS:
                connection.publish(subject, reply=message.subject)
            for call in ("STREAM.PURGE.SOUL", "STREAM.DELETE.SOUL", "STREAM.MSG.DELETE.SOUL"):
                connection.publish(subject, reply=f"$JS.API.{call}")
            for holder in ("junk", "anvil0/17", ">"):
                connection.publish(subject, reply=HOLDS_SUBJECTS.replace(">", holder))
            await connection.flush()
    for end in (RitualCancel.subject, HOLDS_SUBJECTS.replace(">", "end"), "adapter.end"):
        await client.jetstream().publish(end, timeout=30)

    contracts = {message.subject: message for message in PUBLISHERS}
    state = (await client.jetstream().stream_info(SOUL, subjects_filter=">")).state
    stored = [await client.jetstream().get_msg(SOUL, seq) for seq in range(state.first_seq, state.last_seq + 1)]
    answers = [one for one in stored if one.subject != "adapter.end"]
    assert state.messages == len(answers) + 1 and {one.subject for one in answers} >= {"gpu.reclaim", "karma.revoked"}
    for one in answers:
        with pytest.raises(ValidationError):
            contracts[str(one.subject)].model_validate_json(one.data or b"")
    held = await client.jetstream().stream_info(HOLDS_STREAM)
    assert held.state.messages >= 2 and await holds.get_holders(client.jetstream()) == frozenset()


def test_no_seed_is_in_the_configuration_and_nobody_else_may_read_either(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    nats.initialise(settings)
    seeds = {role: (tmp_path / f"secrets/bus/{role}.nk").read_text() for role in Role}
    nats.initialise(settings)

    written = nats.config_file(settings).read_text()
    assert not any(seed.strip() in written for seed in seeds.values())
    assert len(set(seeds.values())) == len(Role)
    assert {role: (tmp_path / f"secrets/bus/{role}.nk").read_text() for role in Role} == seeds
    private = [nats.config_file(settings), *settings.bus_keys_dir.iterdir()]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (settings.bus_keys_dir, tmp_path / "secrets")} == {0o700}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("publisher", 'NATS refuses the role publisher (permissions violation for publish to "gpu.reclaim"'),
        ("foreign", "NATS refuses the key "),
        (None, "NATS refuses a connection without a key: set SOULFORGE_NATS_KEY"),
        ("missing", "run `soulforge up` once, or set SOULFORGE_NATS_KEY"),
    ],
)
async def test_a_command_that_the_bus_refuses_says_so_at_once(
    key: str | None,
    expected: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "foreign.nk").write_bytes(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER))
    use_database(settings, tmp_path / "home", monkeypatch)
    monkeypatch.setenv("SOULFORGE_NATS", settings.nats_url)
    if key:
        folder = settings.bus_keys_dir if key == "publisher" else tmp_path
        monkeypatch.setenv("SOULFORGE_NATS_KEY", str(folder / f"{key}.nk"))

    async with asyncio.timeout(5):
        assert await asyncio.to_thread(run, ["reclaim", "--no-wait"]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
