"""The environment of every process: where the home, the file and the servers are. Everything else is in `soulforge.toml`.

Read once at the start and passed down. Variables are named `SOULFORGE_<FIELD>`, e.g. `SOULFORGE_HOME`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parents[2]
DATABASE_SOCKET = ".s.PGSQL.5432"
CONTROL_SOCKET = "control.sock"
ENGINE_SOCKET = "engine.sock"
DOOR_SOCKET = "door/gateway.sock"
SOCKET_PATH_MAX = 107  # bytes, of Linux
VERIFYING = ("verify-ca", "verify-full")  # modes of TLS in which an impostor gets no password


class SettingsError(Exception):
    """The configuration cannot be used; the message names the value and what to do."""


class Settings(BaseSettings):
    """Places, ports, and the addresses that may carry a password."""

    model_config = SettingsConfigDict(
        env_prefix="SOULFORGE_",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # a URL may have a password
    )

    home: Path = Field(
        Path(".soulforge"), description="Directory of all state. Default: .soulforge in the working directory."
    )
    config: Path | None = Field(
        None,
        description="The configuration. Default: <home>/soulforge.toml, else ./soulforge.toml, else built in: one CPU "
        "anvil with one vLLM.",
    )
    host: str = Field("127.0.0.1", description="Address that every server binds to. Default: loopback.")
    port_base: int = Field(7600, ge=1024, le=65000, description="First of 32 TCP ports in a row. Default: 7600.")
    nats: str | None = Field(None, description="URL of the NATS server. Default: the embedded one.")
    nats_key: Path | None = Field(
        None,
        description="Seed of the nkey with which this process connects to NATS, in a file named after its role, e.g. "
        "publisher.nk. Default: its role's in <home>/secrets/bus.",
    )
    database: str | None = Field(
        None,
        description="URL of PostgreSQL, by TLS or by its socket, as a role that may create roles. Default: the embedded one.",
    )
    database_roles: Literal["separate", "one"] = Field(
        "separate",
        description="`one`: every part connects as the role of SOULFORGE_DATABASE. Default: each as its own.",
    )
    phoenix: str | None = Field(None, description="URL of Phoenix. Default: the embedded one.")
    models: Path | None = Field(None, description="Where Soulforge prepares the embedded base. Default: <home>/models.")

    @field_validator("home", "config", "models", "nats_key")
    @classmethod
    def absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path else None

    @field_validator("database")
    @classmethod
    def encrypted(cls, url: str | None) -> str | None:
        return check_database_url(url) if url else url

    @field_validator("database_roles")
    @classmethod
    def of_a_server_of_the_owners(cls, roles: str, info: ValidationInfo) -> str:
        if roles == "one" and info.data.get("database", "refused") is None:
            raise ValueError("one is for a PostgreSQL of yours: set SOULFORGE_DATABASE too, or leave this out")
        return roles

    @property
    def project(self) -> Path:
        """The folder of the code."""
        return PROJECT

    @property
    def url_host(self) -> str:
        """The host as it is written in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def port(self, part: str) -> int:
        """The TCP port of a part of the embedded stack."""
        return self.port_base + PORT_OFFSETS[part]

    @cached_property
    def nats_url(self) -> str:
        return self.nats or f"nats://{self.url_host}:{self.port('nats')}"

    @property
    def bus_keys_dir(self) -> Path:
        return self.home / "secrets" / "bus"

    def bus_key(self, role: str) -> Path | None:
        """The seed with which `role` connects to NATS; None for a server of one's own that has no keys.

        Raises SettingsError where there is none for the embedded one, or it cannot be read.
        """
        key = self.nats_key or self.bus_keys_dir / f"{role}.nk"
        try:
            with key.open("rb"):
                return key
        except FileNotFoundError:
            if self.nats and not self.nats_key:
                return None
            raise SettingsError(
                f"no key of {role} for NATS in {key}: run `soulforge up` once, or set SOULFORGE_NATS_KEY"
            ) from None
        except OSError as error:
            raise SettingsError(
                f"the key of {role} for NATS cannot be read ({error.strerror}: {key}): set SOULFORGE_NATS_KEY to the file of "
                "a key that its owner gave to you"
            ) from error

    def database_url(self, role: str) -> str:
        """Where PostgreSQL is, for a role: a service, or one of deploy.roles. `bootstrap` owns everything.

        Raises SettingsError where the embedded one was never set up, or its socket could be another account's.
        """
        if self.database and (role == "bootstrap" or self.database_roles == "one"):
            return self.database
        server = urlsplit(
            self.database or f"postgresql:///soulforge?host={quote(str(self._checked_own(self.database_socket_dir)))}"
        )
        name = "soulforge" if role == "bootstrap" else f"soulforge_{role}"
        address = server.netloc.rpartition("@")[2]
        return server._replace(netloc=f"{name}:{quote(self._database_password(role), safe='')}@{address}").geturl()

    def _database_password(self, role: str) -> str:
        file = self.database_password_file(role)
        try:
            return file.read_text().strip()
        except FileNotFoundError:
            raise SettingsError(
                f"no database password in {file}: run `soulforge up` once, or set SOULFORGE_DATABASE and run "
                "`soulforge migrate`"
            ) from None

    def database_password_file(self, role: str) -> Path:
        return self.home / "secrets" / "database" / role

    @property
    def owner_key_file(self) -> Path:
        """The owner's key for the gateway, with which the command line asks."""
        return self.home / "secrets" / "owner-key"

    @property
    def database_socket_dir(self) -> Path:
        """The folder of the embedded PostgreSQL's socket: in the home; below /tmp where the path would be too long."""
        return self._socket_dir("run", DATABASE_SOCKET)

    @property
    def gateway_control_dir(self) -> Path:
        """The folder of the gateway's control socket, as for the database's."""
        return self._socket_dir("gateway", CONTROL_SOCKET)

    @property
    def gateway_control_socket(self) -> Path:
        """Where the gateway takes commands of its own account. Raises SettingsError where it could be another account's."""
        return self._checked_own(self.gateway_control_dir) / CONTROL_SOCKET

    @property
    def gateway_control_url(self) -> str:
        """The same, for HTTP clients."""
        return f"unix://{self.gateway_control_socket}"

    @property
    def door_socket(self) -> Path:
        """Where clients of the home's account reach the gateway, also from a container that has the socket's folder mounted.

        Raises SettingsError where it could be another account's.
        """
        return self._checked_own(self._socket_dir("run", DOOR_SOCKET)) / DOOR_SOCKET

    def engine_socket(self, rune: str) -> Path:
        """Where an engine listens. Raises SettingsError where it could be another account's."""
        socket = f"engines/{rune}/{ENGINE_SOCKET}"
        return self._checked_own(self._socket_dir("run", socket)) / socket

    def make_engine_dir(self, rune: str) -> Path:
        """Make the folder of an engine's socket, for this account alone: its container gets it mounted."""
        folder = self.engine_socket(rune).parent
        for each in (folder.parents[1], folder.parent, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.engine_socket(rune).parent

    def _socket_dir(self, name: str, socket: str) -> Path:
        home = self.home.resolve()
        folder = home / name
        if len(os.fsencode(folder / socket)) <= SOCKET_PATH_MAX:
            return folder
        return Path("/tmp", f"soulforge-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}")

    def _checked_own(self, folder: Path) -> Path:
        """Raise SettingsError unless the folder is of the home's owner alone: in /tmp anyone may have made it first."""
        try:
            found = folder.lstat()
        except OSError:  # there is none, or this account does not reach it
            return folder
        if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid != self.home.stat().st_uid:
            raise SettingsError(
                f"{folder} is not a folder of this account alone: remove it, or move the home elsewhere"
            )
        return folder

    @cached_property
    def phoenix_url(self) -> str:
        return self.phoenix or f"http://{self.url_host}:{self.port('phoenix')}"

    @property
    def gateway_url(self) -> str:
        """Where clients reach every model."""
        return f"http://{self.url_host}:{self.port('gateway')}"

    @property
    def models_dir(self) -> Path:
        return self.models or self.home / "models"

    @property
    def logs_dir(self) -> Path:
        return self.home / "logs"

    @property
    def containers_dir(self) -> Path:
        return self.home / "containers"


def check_database_url(url: str) -> str:
    """Return the URL. Raises ValueError for a way on which a password could be read, or be given to an impostor."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("a URL of PostgreSQL begins with postgresql://")
    options = parse_qs(parts.query)
    hosts = options.get("host", [""])[-1].split(",")
    by_socket = not parts.hostname and all(host.startswith("/") for host in hosts)
    if not by_socket and options.get("sslmode", [""])[-1] not in VERIFYING:
        raise ValueError(
            "PostgreSQL is reached by TLS or by its socket: add ?sslmode=verify-full&sslrootcert=/path/to/ca.pem, "
            "or name the socket's folder: postgresql://role:password@/database?host=/var/run/postgresql"
        )
    return url


FIRST_SERVICE_PORT = 20  # offset of the first service; SERVICE_PORTS in a row are kept for them
SERVICE_PORTS = 6
PORT_OFFSETS = {
    "nats": 0,
    "phoenix": 3,
    "phoenix-grpc": 4,
    "gateway": 5,
}
FIRST_RUNE_PORT = 10  # offset of the first place of a rune that listens on a port
