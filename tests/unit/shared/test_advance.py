"""Which errors count against a ritual."""

from __future__ import annotations

import errno

import pytest

from shared.runtime.advance import is_shared


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("unexpected connection_lost() call"),  # asyncpg's, where a server ends while it is connected to
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_lost_connection_and_a_full_disk_count_against_no_ritual(error: Exception) -> None:
    assert is_shared(error)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), FileNotFoundError("x"), ValueError("x")])
def test_an_error_of_its_own_files_or_values_counts_against_a_ritual(error: Exception) -> None:
    assert not is_shared(error)
