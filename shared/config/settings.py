"""The environment of every process: where the home, the file and the servers are. Everything else is in `soulforge.toml`.

Read once at the start and passed down. Variables are named `SOULFORGE_<FIELD>`, e.g. `SOULFORGE_HOME`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parents[2]


class SettingsError(Exception):
    """The configuration cannot be used; the message names the value and what to do."""


class Settings(BaseSettings):
    """Places, ports, and the addresses that may carry a password."""

    model_config = SettingsConfigDict(env_prefix="SOULFORGE_", frozen=True, extra="ignore")

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
    database: str | None = Field(None, description="URL of PostgreSQL. Default: the embedded one.")
    phoenix: str | None = Field(None, description="URL of Phoenix. Default: the embedded one.")
    models: Path | None = Field(None, description="Where Soulforge prepares the embedded base. Default: <home>/models.")

    @field_validator("home", "config", "models", "nats_key")
    @classmethod
    def absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path else None

    @property
    def project(self) -> Path:
        """The folder of the code."""
        return PROJECT

    def port(self, part: str) -> int:
        """The TCP port of a part of the embedded stack."""
        return self.port_base + PORT_OFFSETS[part]

    @cached_property
    def nats_url(self) -> str:
        return self.nats or f"nats://{self.host}:{self.port('nats')}"

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

    @cached_property
    def database_url(self) -> str:
        """Where PostgreSQL is. Raises SettingsError when the embedded one was never set up."""
        if self.database:
            return self.database
        try:
            password = self.database_password_file.read_text().strip()
        except FileNotFoundError:
            raise SettingsError(
                f"no database password in {self.database_password_file}: run `soulforge up` once, or set SOULFORGE_DATABASE"
            ) from None
        return f"postgresql://soulforge:{quote(password)}@{self.host}:{self.port('postgres')}/soulforge"

    @cached_property
    def phoenix_url(self) -> str:
        return self.phoenix or f"http://{self.host}:{self.port('phoenix')}"

    @property
    def database_password_file(self) -> Path:
        return self.home / "secrets" / "postgres"

    @property
    def engine_key_file(self) -> Path:
        return self.home / "secrets" / "engine"

    @cached_property
    def engine_key(self) -> str | None:
        """The key of the engines' admin routes; None where this account has none."""
        try:
            return self.engine_key_file.read_text().strip()
        except (FileNotFoundError, PermissionError):
            return None

    @property
    def models_dir(self) -> Path:
        return self.models or self.home / "models"

    @property
    def logs_dir(self) -> Path:
        return self.home / "logs"

    @property
    def containers_dir(self) -> Path:
        return self.home / "containers"


FIRST_SERVICE_PORT = 20  # offset of the first service; SERVICE_PORTS in a row are kept for them
SERVICE_PORTS = 6
PORT_OFFSETS = {
    "nats": 0,
    "postgres": 2,
    "phoenix": 3,
    "phoenix-grpc": 4,
    "rune": 10,
}
