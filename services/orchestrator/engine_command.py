"""The container of a rune: vLLM with adapters loadable at run time, or the command of the configuration."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from shared.config.ports import container_name
from shared.config.tables import EMBEDDED_BASE
from shared.drivers.containers.port import ContainerSpec, Mount
from shared.storage.artifacts import Artifacts
from shared.storage.base_model import Bases

if TYPE_CHECKING:
    from pathlib import Path

    from shared.config.model import Configuration, RuneConfig
    from shared.config.settings import Settings
    from shared.storage.base_model import Base

ROLE = "rune"
SHM_BYTES = 2 * 1024**3
# A socket that an earlier process left behind cannot be bound again.
ON_SOCKET = ("/bin/sh", "-c", 'rm -f -- "$0" && exec "$@"')
TOOL_CALLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")  # the form that the embedded base writes


async def rune_spec(settings: Settings, configuration: Configuration, name: str) -> ContainerSpec:
    """Build the container of a rune, and make the folder of its socket.

    Raises BaseError where its base is missing or has changed, SettingsError where the folder is another account's.
    """
    config, anvil = configuration.runes[name], configuration.anvil_of(name)
    device, socket = configuration.anvils[anvil], settings.engine_socket(name)
    base = await Bases(settings, configuration).get(config.base_name) if config.base_name else None
    cache, crypt = settings.home / "cache" / "rune", Artifacts(settings.home).crypt
    for folder in (cache, crypt):
        folder.mkdir(parents=True, exist_ok=True)
    python = config.python or str(configuration.jobs.python)
    own = () if config.python else configuration.jobs.mounted
    if base and not config.command:
        command = _vllm(config, python, base, socket, on_cpu=device.accelerator == "cpu")
    else:
        command = _own_command(config, settings.host, configuration.ports(settings).get(name), socket)
    writable = [cache]
    if config.listens_on_socket:
        command = (*ON_SOCKET, str(socket), *command)
        writable.append(settings.make_engine_dir(name))
    return ContainerSpec(
        name=container_name(anvil, name),
        command=command,
        cwd=cache,
        image=config.image,
        env=_environment(config, cache),
        labels={"role": ROLE, "anvil": anvil},
        # Only an engine of containers needs them; a process sees what its user sees.
        mounts=(
            *(Mount(path=path) for path in (*own, *([base.path] if base else []), crypt)),
            *(Mount(path=path, read_only=False) for path in writable),
        ),
        devices=device.devices if device.accelerator == "nvml" else (),
        capabilities=("SYS_NICE",),
        shm_bytes=SHM_BYTES,
    )


def _environment(config: RuneConfig, cache: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(cache),
        "PYTHONDONTWRITEBYTECODE": "1",
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(config.kv_cache_gib),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "LANG": "C.UTF-8",
        **({"VLLM_SERVER_DEV_MODE": "1"} if config.evacuation == "sleep" else {}),
        **config.env,
    }


def _own_command(config: RuneConfig, host: str, port: int | None, socket: Path) -> tuple[str, ...]:
    values = {"{host}": host, "{port}": str(port), "{socket}": str(socket)}
    return tuple(reduce(lambda word, key: word.replace(key, values[key]), values, word) for word in config.command)


def _vllm(config: RuneConfig, python: str, base: Base, socket: Path, on_cpu: bool) -> tuple[str, ...]:
    flags = {
        "--model": base.path,
        "--served-model-name": base.name,
        "--uds": socket,
        "--dtype": "bfloat16",
        "--max-loras": config.max_loras,
        "--max-cpu-loras": config.max_loras * 4,
        "--max-lora-rank": config.max_lora_rank,
        "--max-model-len": config.max_model_len,
        "--max-num-seqs": config.max_num_seqs,
    }
    return (
        # The wheel's `vllm` script looks for a distribution of another name and fails; the module does not.
        python,
        "-m",
        "vllm.entrypoints.openai.api_server",
        *(str(word) for flag in flags.items() for word in flag),
        "--enable-lora",
        *(["--enforce-eager"] if on_cpu else []),
        *(TOOL_CALLS if base.name == EMBEDDED_BASE else []),
        "--disable-uvicorn-access-log",
        *(["--enable-sleep-mode"] if config.evacuation == "sleep" else []),
        *config.arguments,
    )
