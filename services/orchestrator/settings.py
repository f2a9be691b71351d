"""What the orchestrator is told beyond the common settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024**2


class OrchestratorSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SOULFORGE_ORCHESTRATOR_", frozen=True, extra="ignore")

    accelerator: Literal["cpu", "nvml"] = Field(
        "cpu", description="Where memory is measured: `cpu` (RSS of the rune) or `nvml`."
    )
    devices: tuple[int, ...] = Field((0,), description="NVML indices of the anvil's GPUs. Default: [0].")
    free_below_bytes: int = Field(
        256 * MIB, gt=0, description="Used memory under which the anvil counts as free. Default: 256 MiB."
    )
    free_within_s: float = Field(
        20.0, gt=0, description="Time the memory may take to come free after the stop. Default: 20 s."
    )
    stop_grace_s: float = Field(15.0, gt=0, description="Time a rune has between SIGTERM and SIGKILL. Default: 15 s.")
    start_within_s: float = Field(300.0, gt=0, description="Time a rune may take until it answers. Default: 300 s.")
    max_attempts: int = Field(3, ge=1, description="Attempts after which lost GPU work fails the ritual. Default: 3.")
    max_loras: int = Field(4, ge=1, description="Adapters that may answer in one batch. Default: 4.")
    max_lora_rank: int = Field(16, description="Largest rank the rune accepts. Default: 16.")
    max_model_len: int = Field(2048, ge=256, description="Longest request in tokens. Default: 2048.")
    kv_cache_gib: int = Field(1, ge=1, description="Memory of the CPU key-value cache in GiB. Default: 1.")
