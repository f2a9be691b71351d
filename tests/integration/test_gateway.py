"""The gateway over small engines: names, the routing table, and what stays while the rest is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai.types.chat import ChatCompletionMessageParam

from shared.config.settings import Settings
from shared.storage.postgres import Pool
from tests.support.gateways import BASE, Gateway, gateway_over

ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def gateway(settings: Settings, admin: Pool, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_over(settings, admin, tmp_path, token_s=0) as one:
        yield one


async def test_a_persona_s_name_is_enough(gateway: Gateway) -> None:
    version, ritual = await gateway.add_version("scribe", "aaa")
    await gateway.move_alias("scribe", version)
    await gateway.serves("scribe", version, BASE)

    async with gateway.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model="scribe", messages=ASKED, max_tokens=3)
        answer = raw.parse()
        assert answer.model == version
        assert raw.headers["x-soulforge-adapter"] == version
        assert raw.headers["x-soulforge-ritual"] == str(ritual)
        text = ""
        async for chunk in await client.chat.completions.create(
            model=version, messages=ASKED, max_tokens=3, stream=True
        ):
            text += chunk.choices[0].delta.content or ""
        assert text == answer.choices[0].message.content
        of_base = await client.chat.completions.create(model=BASE, messages=ASKED, max_tokens=3)
        assert of_base.model == BASE and of_base.choices[0].message.content != text
