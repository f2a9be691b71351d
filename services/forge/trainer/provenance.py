"""What a run was made from and on: with the same values, a CPU gives the same bytes."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from services.forge.job import TrainerJob
from shared.config.settings import PROJECT
from shared.contracts.forge import EngineName, Provenance
from shared.storage.digests import digest_file, digest_files, digest_text

TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt")
CODE = ("services/forge", "shared")
CODE_FILES = (".py", ".toml")
LOCKS: dict[EngineName, Path] = {
    "trl": PROJECT / "requirements" / "jobs.lock",
    "unsloth": PROJECT / "requirements" / "unsloth.lock",
}
CPU_INFO = Path("/proc/cpuinfo")


def provenance(job: TrainerJob, template: str, device: str, examples: str) -> Provenance:
    """Digest everything that the adapter depends on."""
    code = (file for folder in CODE for file in (PROJECT / folder).rglob("*") if file.suffix in CODE_FILES)
    return Provenance(
        manifest=job.manifest_digest,
        base=job.base.digest,
        tokenizer=_digest(job.base.path, (file for name in TOKENIZER for file in job.base.path.glob(name))),
        template=digest_text(template),
        recipe=digest_text(job.recipe.model_dump_json(exclude={"micro_batch"})),  # it changes no step
        recipe_reason=job.recipe_reason,
        examples=examples,
        code=_digest(PROJECT, code),
        lock=digest_file(lock) if (lock := LOCKS[job.engine]).is_file() else "",
        seed=job.effective_seed,
        device=device,
        python=platform.python_version(),
    )


def cpu_name() -> str:
    """The processor as the kernel names it."""
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _digest(root: Path, files: Iterable[Path]) -> str:
    return digest_files({file.relative_to(root).as_posix(): digest_file(file) for file in files if file.is_file()})
