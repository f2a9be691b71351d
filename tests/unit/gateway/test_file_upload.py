"""An upload is whole on the disk, or refused with nothing left behind."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ByteSize

from services.gateway.errors import Refusal
from services.gateway.files import upload
from services.gateway.files.upload import Received, Uploads
from services.gateway.request import Gone
from services.gateway.settings import GatewaySettings

BOUNDARY = "x-boundary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
CONTENT = b'{"messages": []}\r\n--x-bound\r\n' * 50_000  # more than a block, and what looks like a boundary


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
PURPOSE = part("purpose", b"fine-tune")
FORM = PURPOSE + part("file", CONTENT, "a.jsonl") + END


def head(kind: str = TYPE, **headers: str) -> dict[str, Any]:
    given = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in given.items()]}


class Body:
    """A body in pieces; behind the last of `pieces` the client is silent, or leaves."""

    def __init__(self, pieces: Iterable[bytes], ends: bool = True, leaves: bool = False) -> None:
        self._pieces, self._ends, self._leaves = iter(pieces), ends, leaves

    async def __call__(self) -> dict[str, Any]:
        if (piece := next(self._pieces, None)) is not None:
            return {"type": "http.request", "body": piece, "more_body": True}
        if self._leaves:
            return {"type": "http.disconnect"}
        if not self._ends:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": b"", "more_body": False}


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def uploads(folder: Path, min_free: int = 0, **limits: Any) -> Uploads:
    return Uploads(GatewaySettings(**limits), folder, ByteSize(min_free))


async def refused(folder: Path, body: Body, scope: dict[str, Any] | None = None, **limits: Any) -> Refusal:
    with pytest.raises(Refusal) as raised:
        await uploads(folder, **limits).receive(scope or head(), body, "id")
    assert not folder.exists() or not list(folder.iterdir())
    return raised.value


@pytest.mark.parametrize("size", [1009, 65_536, len(FORM)])
@pytest.mark.parametrize("purpose_first", [True, False])
async def test_a_file_arrives_as_it_is_however_it_is_cut(tmp_path: Path, size: int, purpose_first: bool) -> None:
    file = part("file", CONTENT, "a.jsonl")
    form = (PURPOSE + file if purpose_first else file + PURPOSE) + END

    received = await uploads(tmp_path).receive(head(), Body(cut(form, size)), "id")

    assert received == Received("a.jsonl", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "id").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        (part("purpose", b"assistants") + END, "unsupported_purpose", "purpose"),
        (PURPOSE + part("expires_after[anchor]", b"created_at"), "unsupported_parameter", "expires_after"),
        (PURPOSE + part("colour", b"red"), "unsupported_parameter", "colour"),
        (PURPOSE + PURPOSE, "repeated_field", "purpose"),
        (PURPOSE + END, "missing_field", "file"),
        (part("file", b"{}", "a.jsonl") + END, "missing_field", "purpose"),
        (PURPOSE + part("file", b"{}") + END, "invalid_file", "file"),
        (PURPOSE + part("file", b"{}", "a.jsonl"), "invalid_form", None),
        (part("purpose", b"x" * 2000) + END, "invalid_form", None),
        (b"no form", "invalid_form", None),
        (f"--{BOUNDARY}\r\n{'x' * 9000}: y\r\n\r\n".encode(), "invalid_form", None),
        (part("purpose", b"\xff") + END, "invalid_form", None),
    ],
)
async def test_what_is_not_the_form_is_refused_by_name(
    tmp_path: Path, form: bytes, code: str, param: str | None
) -> None:
    refusal = await refused(tmp_path, Body([form]))
    assert (refusal.status, refusal.code, refusal.param) == (400, code, param)


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 999]
)
async def test_another_content_type_is_refused(tmp_path: Path, kind: str) -> None:
    assert (await refused(tmp_path, Body([FORM]), head(kind))).code == "invalid_form"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\x00b\x1b[2J.jsonl", "x" * 400])
async def test_a_filename_is_a_text_and_no_path(tmp_path: Path, name: str) -> None:
    form = PURPOSE + part("file", b"{}", name) + END
    received = await uploads(tmp_path / "files").receive(head(), Body([form]), "id")

    assert received.filename.isprintable() and len(received.filename) <= 255
    assert [path.name for path in tmp_path.rglob("*")] == ["files", "id"]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_file_that_is_too_large_is_refused_before_it_is_read_where_its_size_is_declared(
    tmp_path: Path, declared: bool
) -> None:
    body = Body(cut(FORM, 1000))
    scope = head(content_length=str(len(FORM))) if declared else head()

    assert (await refused(tmp_path, body, scope, max_file=100_000)).status == 413
    assert ((await body())["body"] == FORM[:1000]) is declared


async def test_a_file_may_be_as_large_as_the_limit_and_no_larger(tmp_path: Path) -> None:
    assert (await refused(tmp_path, Body([FORM]), max_file=len(CONTENT) - 1)).code == "file_too_large"
    await uploads(tmp_path, max_file=len(CONTENT)).receive(head(), Body([FORM]), "id")


async def test_a_client_that_sends_too_slowly_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await refused(tmp_path, Body([FORM[:100]], ends=False), read_within_s=0.05)).status == 408
    # What arrived gives more time, at the least rate.
    monkeypatch.setattr(upload, "LEAST_RATE", len(FORM) / 0.3)
    began = asyncio.get_running_loop().time()
    await refused(tmp_path, Body([FORM[:-100]], ends=False), read_within_s=0.05)
    assert 0.3 < asyncio.get_running_loop().time() - began < 2


async def test_of_a_client_that_leaves_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(Gone):
        await uploads(tmp_path).receive(head(), Body(cut(FORM[:-100], 10_000), leaves=True), "id")
    assert not list(tmp_path.iterdir())


async def test_a_file_that_the_disk_has_no_room_for_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = await refused(tmp_path, Body(cut(FORM, 10_000)), min_free=1 << 60)
    assert (refusal.status, refusal.code) == (507, "insufficient_storage")
    assert "(runtime.min_free) are needed" in str(refusal)

    with full_disk(monkeypatch):
        refusal = await refused(tmp_path, Body(cut(FORM, 10_000)))
    assert (refusal.status, refusal.code) == (507, "insufficient_storage") and "No space left" in str(refusal)


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def no_space(self: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(upload._File, "sync", no_space)
        yield


async def test_only_some_are_received_at_once(tmp_path: Path) -> None:
    shared = uploads(tmp_path, read_within_s=30)
    waiting = [
        asyncio.create_task(shared.receive(head(), Body([FORM[:100]], ends=False), f"id{number}"))
        for number in range(upload.AT_ONCE)
    ]
    await asyncio.sleep(0)

    with pytest.raises(Refusal) as raised:
        await shared.receive(head(), Body([FORM]), "one more")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert raised.value.status == 503
    assert not list(tmp_path.iterdir())
    await shared.receive(head(), Body([FORM]), "one more")
