"""What every process of Soulforge is told: read once from the environment, passed down from there.

Variables are named `SOULFORGE_<FIELD>`, e.g. `SOULFORGE_HOME`, `SOULFORGE_PORT_BASE`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parents[2]


class SettingsError(Exception):
    """The configuration cannot be used; the message says which value and what to do."""


class Settings(BaseSettings):
    """Everything that differs between one house and another."""

    model_config = SettingsConfigDict(env_prefix="SOULFORGE_", frozen=True, extra="ignore")

    home: Path = Field(
        Path(".soulforge"), description="Directory of all state. Default: .soulforge in the working directory."
    )
    config: Path | None = Field(
        None,
        description="File that says what stands in the house. Default: <home>/soulforge.toml, else ./soulforge.toml, "
        "else one CPU anvil with one vLLM.",
    )
    host: str = Field("127.0.0.1", description="Address that every server binds to. Default: loopback.")
    port_base: int = Field(7600, ge=1024, le=65000, description="First of 32 TCP ports in a row. Default: 7600.")
    nats: str | None = Field(None, description="URL of the NATS server. Default: the embedded one.")
    database: str | None = Field(None, description="URL of PostgreSQL. Default: the embedded one.")
    phoenix: str | None = Field(None, description="URL of Phoenix. Default: the embedded one.")
    jobs_python: Path = Field(
        PROJECT / ".venv-jobs/bin/python", description="Interpreter of the environment with torch."
    )
    models: Path | None = Field(None, description="Directory of prepared base models. Default: <home>/models.")
    base: str = Field(
        "smollm2-135m-instruct",
        description="Name of the base model, as clients ask for it. Default: smollm2-135m-instruct.",
    )
    suites: Path = Field(
        PROJECT / "services/verifier/suites",
        description="Directory of the benchmarks in use; karma that holds their items is not trained on.",
    )
    anvil: str = Field("anvil0", description="Name of the set of devices that is leased as one. Default: anvil0.")
    lease_ttl_s: float = Field(
        60.0, gt=0, description="Life of an unrenewed lease, in seconds of the database's clock. Default: 60."
    )
    reconcile_s: float = Field(
        3.0, gt=0, description="Seconds between two looks at rows and the real world. Default: 3."
    )
    log_level: str = Field("INFO", description="Least severe level that is logged. Default: INFO.")

    @field_validator("home", "config", "models", "jobs_python")
    @classmethod
    def absolute(cls, path: Path | None) -> Path | None:
        # Not resolve(): the interpreter of a virtual environment is a link that must stay one.
        return path.expanduser().absolute() if path else None

    @property
    def jobs_interpreter(self) -> tuple[Path, ...]:
        """What a container has to see of the jobs' environment: it, and the Python it was made from, where that is no part of a system."""
        made_from = self.jobs_python.resolve().parents[1]
        return (self.jobs_python.parents[1], *([] if made_from == Path("/usr") else [made_from]))

    @property
    def project(self) -> Path:
        """Where the code lies."""
        return PROJECT

    def port(self, part: str) -> int:
        """The TCP port of a part of the embedded stack."""
        return self.port_base + PORT_OFFSETS[part]

    @cached_property
    def nats_url(self) -> str:
        return self.nats or f"nats://{self.host}:{self.port('nats')}"

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
    "nats-monitor": 1,
    "postgres": 2,
    "phoenix": 3,
    "phoenix-grpc": 4,
    "rune": 10,
}
