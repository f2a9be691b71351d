"""`/v1/files` by the stock client: what is uploaded is checked, seen by its own key only, and gone once it is deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest
from openai.types import FileObject

from services.gateway.files import store
from services.gateway.files.checks import PARTIAL, Checks
from services.gateway.files.upload import Received
from shared.config.settings import Settings
from shared.storage.postgres import Pool, open_pool
from tests.support.gateways import Gateway, gateway_over
from tests.support.tuning_files import LEAST, PLAIN, SAMPLES, lines

RECEIVED = Received("a.jsonl", 3, "0" * 64)


@pytest.fixture
async def gateway(settings: Settings, admin: Pool, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_over(settings, admin, tmp_path) as one:
        yield one


async def upload(client: openai.AsyncOpenAI, content: bytes, name: str = "a.jsonl") -> FileObject:
    return await client.files.create(file=(name, content), purpose="fine-tune")


async def checked(client: openai.AsyncOpenAI, content: bytes) -> FileObject:
    file = await upload(client, content)
    return await client.files.wait_for_processing(file.id, poll_interval=0.1, max_wait_seconds=60)


async def test_the_stock_client_uploads_reads_lists_and_deletes(gateway: Gateway) -> None:
    content = SAMPLES["chat"].content
    key = await gateway.add_key("train")
    async with gateway.client(key=key) as client:
        file = await checked(client, content)

        assert (file.status, file.bytes, file.filename, file.purpose) == (
            "processed",
            len(content),
            "a.jsonl",
            "fine-tune",
        )
        assert abs(file.created_at - time.time()) < 60
        assert (await client.files.content(file.id)).content == content
        assert [one.id async for one in client.files.list(purpose="fine-tune")] == [file.id]
        assert [one.id async for one in client.files.list(purpose="batch")] == []

        deleted = await client.files.delete(file.id)
        assert (deleted.id, deleted.deleted) == (file.id, True)
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError, match="there is no file"):
                await call(file.id)
    assert not list(store.folder_of(gateway.settings.home).iterdir())
    assert await gateway.admin.fetchval("SELECT examples FROM gateway.file WHERE deleted_at IS NOT NULL") == LEAST


async def test_a_file_that_cannot_be_used_names_its_lines(gateway: Gateway) -> None:
    async with gateway.client(key=await gateway.add_key("train")) as client:
        file = await checked(client, lines(PLAIN) + b"{\n" + lines(PLAIN, 1) + b'{"messages": []}\n')

        assert (file.status, file.status_details) == (
            "error",
            "line 11: not JSON: truncated; line 13: messages are empty",
        )


async def test_a_client_sees_the_files_of_its_own_key_and_an_admin_sees_all(gateway: Gateway) -> None:
    one, other, admin = [await gateway.add_key(scope) for scope in ("train", "train", "admin")]
    async with gateway.client(key=one) as client:
        files = [await upload(client, b"{}", f"{number}.jsonl") for number in range(3)]
        newest = [file.id for file in reversed(files)]
        assert [file.id async for file in client.files.list(limit=2)] == newest
        assert [file.id async for file in client.files.list(limit=1, order="asc")] == newest[::-1]
        page = await client.files.list(limit=2, after=newest[0])
        assert ([file.id for file in page.data], page.has_more) == (newest[1:], False)
    async with gateway.client(key=other) as client:
        assert [file.id async for file in client.files.list()] == []
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                await call(newest[0])
    async with gateway.client(key=admin) as client:
        assert [file.id async for file in client.files.list()] == newest
        await client.files.delete(newest[0])


async def test_a_form_that_curl_sends_is_taken_and_one_of_a_web_page_is_not(gateway: Gateway) -> None:
    key = await gateway.add_key("train")
    form = {"data": {"purpose": "fine-tune"}, "files": {"file": ("a.jsonl", b"{}")}}
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        with_key = await client.post("/v1/files", headers={"authorization": f"Bearer {key}"}, **form)  # type: ignore[arg-type]
        without = await client.post("/v1/files", **form)  # type: ignore[arg-type]
    assert (with_key.status_code, without.status_code) == (200, 415)


async def test_others_are_answered_while_a_large_file_is_received_and_checked(gateway: Gateway) -> None:
    content = lines(PLAIN, 15_000)
    async with (
        gateway.client(key=await gateway.add_key("train")) as client,
        httpx.AsyncClient(base_url=gateway.url) as others,
    ):
        checking, began, waits = asyncio.create_task(checked(client, content)), time.monotonic(), [0.0]
        while not checking.done():
            asked = time.monotonic()
            assert (await others.get("/health")).status_code == 200
            waits.append(time.monotonic() - asked)
            await asyncio.sleep(0.01)
        assert (await checking).status == "processed"
    # Were it read in the gateway's own loop, one request would wait for nearly all of the check.
    assert max(waits) < (time.monotonic() - began) / 3


async def test_what_a_killed_gateway_left_is_settled(settings: Settings, admin: Pool, tmp_path: Path) -> None:
    ids = [f"file-{number:024x}" for number in range(5)]
    nothing, partial, whole, deleted, writing = ids
    folder = store.folder_of(tmp_path)
    folder.mkdir(parents=True)
    for name in (nothing + PARTIAL, partial + PARTIAL, whole, deleted, writing + PARTIAL):
        folder.joinpath(name).write_bytes(b"{}\n")
    pool = await open_pool(settings.database_url("gateway"), "gateway")
    for id in (partial, whole, deleted):
        await store.insert_file(pool, tmp_path, id, "key", RECEIVED)
    await store.mark_deleted(pool, deleted)

    checks = Checks(tmp_path)
    checks.writing.add(writing)
    await checks.settle(pool)
    assert await checks.run(pool) == 0.0
    assert await checks.run(pool) is None

    assert {path.name for path in folder.iterdir()} == {partial, whole, writing + PARTIAL}
    assert {file.status for file in await store.list_files(pool, tmp_path, None, None, 9, oldest_first=True)} == {
        "error"
    }
    await pool.close()


async def test_a_file_whose_check_fails_is_an_error_and_the_next_is_checked(
    settings: Settings, admin: Pool, tmp_path: Path
) -> None:
    pool = await open_pool(settings.database_url("gateway"), "gateway")
    missing, there = (f"file-{number:024x}" for number in range(2))
    for id in (missing, there):
        await store.insert_file(pool, tmp_path, id, "key", RECEIVED)
    store.folder_of(tmp_path).mkdir(parents=True)
    store.folder_of(tmp_path).joinpath(there).write_bytes(SAMPLES["chat"].content)

    checks = Checks(tmp_path)
    while await checks.run(pool) is not None:
        pass

    found = {file.id: file for file in await store.list_files(pool, tmp_path, None, None, 9, oldest_first=True)}
    assert found[missing].trouble == "its check failed: the gateway's log has the reason"
    assert (found[there].status, found[there].trouble) == ("processed", None)
    await pool.close()


async def test_a_key_has_two_uploads_at_once(gateway: Gateway) -> None:
    sent = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await sent.wait()

    headers = {"authorization": f"Bearer {await gateway.add_key('train')}"}
    slowly = headers | {"content-type": "multipart/form-data; boundary=x", "content-length": "1000"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as client:
        waiting = [asyncio.create_task(client.post("/v1/files", headers=slowly, content=slow())) for _ in range(2)]
        await asyncio.sleep(0.5)
        form = {"files": {"file": ("a.jsonl", SAMPLES["chat"].content)}, "data": {"purpose": "fine-tune"}}
        third = await client.post("/v1/files", **form)  # type: ignore[arg-type]
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert (third.status_code, third.json()["error"]["type"]) == (429, "rate_limit_error")
