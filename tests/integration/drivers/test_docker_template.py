"""What the engine is asked to create, and what is made of its answers: pure functions, no engine."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from shared.drivers.containers.docker import has_payload
from shared.drivers.containers.docker_request import EngineKind, create_body
from shared.drivers.containers.docker_template import JobBody
from shared.drivers.containers.docker_view import Inspected, describe, isolation, resident_bytes
from shared.drivers.containers.port import ContainerSpec, Mount

USER = "65532:65532"
SPEC = ContainerSpec(name="job", command=("python", "-V"), cwd=Path("/work"))


def asked(**more: Any) -> dict[str, Any]:
    return create_body(SPEC.model_copy(update=more), "house", "image", EngineKind(), USER).request()


def seen(**state: Any) -> Inspected:
    labels = {"soulforge-name": "job", "soulforge.role": "trainer", "soulforge-time-limit-s": "60"}
    defaults = {
        "Status": "exited",
        "Running": False,
        "OOMKilled": False,
        "ExitCode": 0,
        "StartedAt": "2026-01-01T00:00:00.123456789Z",
        "FinishedAt": "2026-01-01T00:00:10Z",
    }
    return Inspected(
        {"Created": "2026-01-01T00:00:00Z", "Config": {"Labels": labels}, "HostConfig": {}, "State": defaults | state}
    )


def test_a_job_has_every_wall() -> None:
    host = asked(isolated=True, memory_bytes=1000)["HostConfig"]
    walls = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "CapAdd": [],
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "IpcMode": "private",
        "Memory": 1000,
        "MemorySwap": 1000,
        "PidsLimit": 4096,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    }
    assert {name: host[name] for name in walls} == walls


def test_a_rune_keeps_only_the_capabilities_it_asks_for() -> None:
    host = asked(capabilities=("SYS_NICE",))["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"], host["NetworkMode"]) == (["ALL"], ["SYS_NICE"], "host")
    assert asked(isolated=True, capabilities=("SYS_NICE",))["HostConfig"]["CapAdd"] == []


def test_the_environment_is_that_of_the_specification_without_the_name_of_the_host() -> None:
    # A name without a value is one that the engine removes.
    assert asked(env={"GIVEN": "1"})["Env"] == ["GIVEN=1", "HOSTNAME"]
    assert asked(env={"HOSTNAME": "anvil"})["Env"] == ["HOSTNAME=anvil"]


def test_podman_covers_a_hidden_directory_with_nothing(tmp_path: Path) -> None:
    (tmp_path / "holdout").mkdir()
    spec = SPEC.model_copy(
        update={"isolated": True, "mounts": (Mount(path=tmp_path),), "hidden": (tmp_path / "holdout",)}
    )
    cover = create_body(spec, "house", "image", EngineKind(podman=True), USER).host_config.tmpfs[
        str(tmp_path / "holdout")
    ]
    assert cover.startswith("ro,") and cover.endswith(",notmpcopyup")


def test_below_the_home_of_root_in_the_image_a_job_finds_its_mounts() -> None:
    def cover(mounts: tuple[Mount, ...]) -> str | None:
        found: str | None = asked(isolated=True, mounts=mounts)["HostConfig"]["Tmpfs"].get("/root")
        return found

    assert cover((Mount(path=Path("/srv")),)) is None
    assert cover((Mount(path=Path("/root/soulforge")),)) == "ro,nosuid,nodev,noexec,mode=755,uid=65532,gid=65532"


def test_gpus_are_requested_by_their_index() -> None:
    [request] = asked(devices=(0, 2))["HostConfig"]["DeviceRequests"]
    assert request == {"Driver": "nvidia", "Count": 0, "DeviceIDs": ["0", "2"], "Capabilities": [["gpu"]]}
    assert asked()["HostConfig"]["DeviceRequests"] == []


def test_shared_memory_is_as_large_as_asked_or_as_the_memory() -> None:
    assert asked(shm_bytes=5, memory_bytes=7)["HostConfig"]["ShmSize"] == 5
    assert asked(memory_bytes=7)["HostConfig"]["ShmSize"] == 7


def test_the_time_limit_is_kept_inside_the_container() -> None:
    assert asked(time_limit_s=1.5)["Entrypoint"] == ["timeout", "--foreground", "--signal=KILL", "1.5", "python", "-V"]
    assert asked()["Entrypoint"] == ["python", "-V"]


def test_a_hidden_file_below_a_mount_is_covered_by_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    body = asked(isolated=True, mounts=(Mount(path=tmp_path),), hidden=(secret, tmp_path.parent))
    assert [(bind["Source"], bind["Target"]) for bind in body["HostConfig"]["Mounts"]] == [
        (str(tmp_path), str(tmp_path)),
        ("/dev/null", str(secret)),
    ]


def test_a_hidden_file_below_a_hidden_folder_needs_no_cover_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "home/soulforge.toml"
    secret.parent.mkdir()
    secret.touch()
    host = asked(isolated=True, mounts=(Mount(path=tmp_path),), hidden=(secret.parent, secret))["HostConfig"]
    assert str(secret.parent) in host["Tmpfs"]
    assert [bind["Target"] for bind in host["Mounts"]] == [str(tmp_path)]


def test_a_job_template_survives_the_wire() -> None:
    body = create_body(
        SPEC.model_copy(update={"isolated": True, "devices": (1,)}), "house", "image", EngineKind(rootless=True), USER
    )
    assert JobBody.model_validate_json(body.model_dump_json(by_alias=True)) == body


@pytest.mark.parametrize(
    ("state", "exit_code", "limit"),
    [
        ({"ExitCode": 7}, 7, None),
        ({"ExitCode": 143}, -signal.SIGTERM, None),
        ({"ExitCode": 137}, -signal.SIGKILL, None),
        ({"ExitCode": 137, "OOMKilled": True}, -signal.SIGKILL, "memory"),
        # A child was killed for its memory, and the payload lived on.
        ({"ExitCode": 0, "OOMKilled": True}, 0, None),
        ({"ExitCode": 137, "FinishedAt": "2026-01-01T00:01:00.2Z"}, -signal.SIGKILL, "time"),
        ({"ExitCode": 0, "FinishedAt": "2026-01-01T00:01:00.2Z"}, 0, None),
        ({"ExitCode": 255}, None, "lost"),
        ({"ExitCode": 250}, 250, None),
    ],
)
def test_an_end_is_told_in_the_words_of_the_port(state: dict[str, Any], exit_code: int, limit: str) -> None:
    info = describe(seen(**state))
    assert (info.exit_code, info.limit) == (exit_code, limit)
    assert info.labels == {"role": "trainer"}


def test_what_never_ran_has_no_end() -> None:
    info = describe(seen(Status="created", StartedAt="0001-01-01T00:00:00Z", FinishedAt="0001-01-01T00:00:00Z"))
    assert (info.exit_code, info.limit, info.finished_at) == (None, None, None)


def test_isolation_is_what_the_engine_says_not_what_was_asked() -> None:
    assert "network" not in isolation({"NetworkMode": "host", "CapDrop": ["ALL"]})
    assert "capabilities" not in isolation({"NetworkMode": "none", "CapDrop": ["ALL"], "Privileged": True})
    assert "pid" not in isolation({"PidMode": "host"})


@pytest.mark.parametrize(
    ("stats", "resident"),
    [
        ({}, 0),
        ({"memory_stats": {"usage": 100, "stats": {"anon": 50, "shmem": 5, "file": 40}}}, 55),
        ({"memory_stats": {"usage": 100, "stats": {"total_rss": 50, "total_shmem": 5, "total_cache": 45}}}, 55),
        ({"memory_stats": {"usage": 100}}, 100),
    ],
)
def test_memory_counts_what_is_held_and_no_page_cache(stats: dict[str, Any], resident: int) -> None:
    assert resident_bytes(stats) == resident


@pytest.mark.parametrize(
    ("commands", "launched"),
    [
        (["/sbin/docker-init -- timeout --foreground --signal=KILL 60 python", "python -V"], True),
        (["/sbin/docker-init -- python", "timeout --foreground --signal=KILL 60 python"], False),
        (["[docker-init]"], False),
        (["/sbin/docker-init -- python", "[timeout] <defunct>"], False),
        (["runc init"], False),
        ([], False),
        (None, False),
    ],
)
def test_neither_an_init_nor_a_process_that_just_ended_is_a_payload(commands: list[str] | None, launched: bool) -> None:
    assert has_payload(commands) is launched
