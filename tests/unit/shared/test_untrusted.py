"""Files that a job wrote: what is sound is read, and everything else is one kind of error, at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.contracts.job import JobResult
from shared.contracts.text import REPLACEMENT
from shared.storage.digests import digest_file
from shared.storage.untrusted import (
    KIB,
    MissingOutput,
    OutputError,
    list_names,
    read_bytes,
    read_model,
    read_tail,
)
from shared.storage.untrusted import digest_file as digest_untrusted

pytestmark = pytest.mark.timeout(20)

NAME = "result.json"
GIB = 1024**3


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(GIB)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def unreadable(path: Path) -> None:
    path.write_text('{"ok": true}')
    path.chmod(0)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "is not a regular file"),
    "folder": (Path.mkdir, "is not a regular file"),
    "socket": (bound_socket, "is not a regular file"),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "link to a sound file": (lambda path: path.symlink_to(sound(path.with_name("sound"))), "is not a regular file"),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "is not a regular file"),
    "sparse file": (sparse, "is over 1 KiB"),
    "nothing": (lambda _: None, "is missing"),
}
TEXTS = {
    "no text": (b"\xff\xfe\xfa", "is not JSON"),
    "half a file": (b'{"ok": true, "re', "is not JSON"),
    "no file": (b"", "is not JSON"),
    "deep": (b"[" * 900, "is not JSON"),
    "a list": (b"[]", "has 1 errors"),
    "a number": (b"7", "has 1 errors"),
    "nothing in it": (b"{}", "has 1 errors, first ok: Field required"),
    "fields of another version": (b'{"ok": true, "other": 1, "more": 2}', "has 2 errors"),
    "no number": (b'{"ok": true, "result": {"loss": NaN}}', "cannot be read"),
    "too large a number": (b'{"ok": true, "result": {"loss": 1e999}}', "cannot be read"),
    "too many digits": (b'{"ok": true, "result": {"loss": %s}}' % (b"9" * 5000), "is not JSON"),
    "text in place of a number": (
        b'{"ok": true, "spans": [{"name": "a", "start_ns": "1", "end_ns": 2}]}',
        "spans.0.start_ns",
    ),
}


def sound(path: Path) -> Path:
    path.write_text(JobResult(ok=True).model_dump_json())
    return path


@pytest.mark.parametrize(("make", "fault"), FILES.values(), ids=FILES)
def test_what_is_no_regular_file_of_a_sensible_size_is_an_error_at_once(
    tmp_path: Path, make: Callable[[Path], object], fault: str
) -> None:
    make(tmp_path / NAME)
    for read in (read_bytes, digest_untrusted):
        with pytest.raises(OutputError, match=f"^{NAME} {fault}$") as raised:
            read(tmp_path, NAME, KIB)
        assert isinstance(raised.value, MissingOutput) == (fault == "is missing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_file_without_permissions_is_an_error(tmp_path: Path) -> None:
    unreadable(tmp_path / NAME)
    with pytest.raises(OutputError, match=r"result\.json cannot be read: Permission denied"):
        read_bytes(tmp_path, NAME, KIB)


@pytest.mark.parametrize(("text", "fault"), TEXTS.values(), ids=TEXTS)
def test_what_is_no_such_value_is_an_error(tmp_path: Path, text: bytes, fault: str) -> None:
    (tmp_path / NAME).write_bytes(text)
    with pytest.raises(OutputError, match=f"^{NAME} .*{fault}"):
        read_model(tmp_path, NAME, JobResult, 8 * KIB)


def test_nesting_of_any_depth_is_an_error(tmp_path: Path) -> None:
    """Parsing, cleaning and validating have different limits."""
    for depth in (100, 300, 600, 990, 1_100, 50_000):
        (tmp_path / NAME).write_text('{"ok": 1, "result": ' + '{"a": ' * depth + "1" + "}" * depth + "}")
        with pytest.raises(OutputError):
            read_model(tmp_path, NAME, JobResult, 1024 * KIB)


def test_a_link_on_the_way_is_an_error_as_well(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    sound(tmp_path / "elsewhere" / NAME)
    root = tmp_path / "root"
    root.mkdir()
    (root / "adapter").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is not a regular file"):
        read_bytes(root, f"adapter/{NAME}", KIB)
    with pytest.raises(OutputError):
        list_names(root, "adapter", 10)


def test_a_sound_file_is_read_with_texts_that_can_be_stored(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b'{"ok": false, "error": "a\\u0000b\\ud800c", "result": {"k\\u0000": 1}}')
    read = read_model(tmp_path, NAME, JobResult, KIB)
    assert read.error == f"a{REPLACEMENT}b{REPLACEMENT}c"
    assert read.result == {f"k{REPLACEMENT}": 1}


def test_digest_and_tail_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"0123456789")
    assert digest_untrusted(tmp_path, "in/file", 10) == digest_file(tmp_path / "in" / "file")
    assert read_tail(tmp_path, "in/file", 4) == b"6789"
    assert read_tail(tmp_path, "in/file", 40) == b"0123456789"
    assert list_names(tmp_path, "in", 10) == {"file"}


def test_only_so_many_names_are_read(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / str(number)).touch()
    assert len(list_names(tmp_path, ".", 3)) == 3


def test_names_that_are_no_text_are_cleaned(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff")).touch()
    assert list_names(tmp_path, ".", 3) == {REPLACEMENT}
