"""The sandbox's filter and remedies, and how memory is counted; what a job cannot do is tried in tests/integration/drivers."""

from __future__ import annotations

import os
from pathlib import Path

import pyseccomp
import pytest

from shared.drivers.containers import seccomp
from shared.drivers.containers.sandbox import find_remedy
from shared.processes import tree
from shared.processes.identity import identify

UNKNOWN_NAME = -1  # __NR_SCMP_ERROR; other negative numbers are calls that this architecture lacks
NAMED = {
    call
    for call in (*seccomp.REFUSED, *seccomp.UNKNOWN, *(call for call, _ in (*seccomp.MODE_AT, *seccomp.FLAGS_AT)))
    if isinstance(call, str)
}


@pytest.mark.parametrize("call", sorted(NAMED))
def test_every_refused_call_has_its_right_name(call: str) -> None:
    assert pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, call) != UNKNOWN_NAME


@pytest.mark.parametrize(
    ("setting", "value", "command"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "apparmor_parser -r"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces="),
        ("user/max_user_namespaces", "1000", "apt-get install bubblewrap libseccomp2"),
    ],
)
def test_the_remedy_fits_the_cause(tmp_path: Path, setting: str, value: str, command: str) -> None:
    (tmp_path / setting).parent.mkdir(parents=True)
    (tmp_path / setting).write_text(f"{value}\n")
    assert command in find_remedy(tmp_path)


def test_memory_that_a_process_hides_counts_by_its_resident_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    process = identify(os.getpid())
    assert process is not None
    shown = tree.proportional_bytes([process])
    monkeypatch.setattr(tree, "PROC", tmp_path)
    hidden = tree.proportional_bytes([process])
    assert 0 < shown <= hidden
