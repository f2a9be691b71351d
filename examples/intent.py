"""Request a ritual from another component, with nothing but nats-py: `python examples/intent.py scribe --id nightly-1`."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import nats
from nats.errors import Error as NatsError

LONGEST_WAIT_S = 60


async def request(url: str, key: str, intent: dict[str, Any]) -> dict[str, Any]:
    """Send the intent until it is answered; the same id again opens no second ritual. Returns the answer."""
    bus = await nats.connect(url, nkeys_seed=key, inbox_prefix="_INBOX_publisher")
    wait_s = 1
    try:
        while True:
            try:
                reply = await bus.request("training.intent", json.dumps(intent).encode(), timeout=10)
                answer: dict[str, Any] = json.loads(reply.data)
                return answer
            except NatsError:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    finally:
        await bus.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("persona")
    parser.add_argument("--id", required=True, help="your own id of this intent")
    parser.add_argument("--nats", default="nats://127.0.0.1:7600")
    parser.add_argument("--key", default=".soulforge/secrets/bus/publisher.nk", help="the publisher's seed")
    given = parser.parse_args()
    print(json.dumps(asyncio.run(request(given.nats, given.key, {"persona": given.persona, "id": given.id}))))


if __name__ == "__main__":
    main()
