"""Collect the wheels that a GPU machine without network lacks: `python -m tools.gpu_check.wheels FOLDER`.

Such a machine has a Python with PyTorch, transformers, accelerate, PyArrow and their like. The rest is small, but for what
the GPU check does not use: that is left out of its wheel. Versions are those of the locks.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from zipfile import ZIP_DEFLATED, ZipFile

import typer

from shared.config.settings import PROJECT
from shared.storage.untrusted import MIB

MODELS = ("annotated-types", "pydantic", "pydantic_core", "pydantic-settings", "python-dotenv", "typing-inspection")
TRAINING = ("datasets", "dill", "multiprocess", "peft", "trl")
#: Name of the environment and of its lock -> what is brought for it.
BROUGHT: dict[str, tuple[str, ...]] = {
    "core": (*MODELS, "asyncpg", "docker", "nats-py", "structlog"),
    "jobs": (*MODELS, *TRAINING),
    "unsloth": (
        *(*MODELS, *TRAINING, "unsloth", "unsloth_zoo", "bitsandbytes"),
        *(
            "cut-cross-entropy",
            "docstring_parser",
            "json5",
            "msgspec",
            "nest-asyncio",
            "structlog",
            "typeguard",
            "tyro",
        ),
    ),
}
GLIBC = (17, 24, 27, 28, 31, 34, 35)  # pip takes each tag as it is, and no older one beside it


def main(
    folder: Annotated[Path, typer.Argument(help="Is replaced.")],
    python: Annotated[str, typer.Option(help="Version of the machine's Python.")] = "3.12",
    cuda: Annotated[str, typer.Option(help="Version of its CUDA, without dots.")] = "130",
    most_mib: Annotated[int, typer.Option(help="MiB that they may come to.")] = 48,
) -> None:
    """Download, slim and weigh them."""
    shutil.rmtree(folder, ignore_errors=True)
    for environment, names in BROUGHT.items():
        download(folder / environment, pinned(environment, names), python)
        for wheel in sorted((folder / environment).iterdir()):
            slim(wheel, unused(cuda).get(wheel.name.partition("-")[0]))
    size = sum(wheel.stat().st_size for wheel in folder.rglob("*.whl")) / MIB
    typer.echo(f"{folder}: {size:.1f} MiB")
    if size > most_mib:
        typer.echo(f"that is more than {most_mib} MiB", err=True)
        raise typer.Exit(1)


def pinned(environment: str, names: tuple[str, ...]) -> list[str]:
    """The packages with their versions in the lock. Raises KeyError for one that it does not have."""
    lock = (PROJECT / "requirements" / f"{environment}.lock").read_text(encoding="utf-8").splitlines()
    versions = {_normal(line.partition("==")[0]): line for line in lock if "==" in line}
    return [versions[_normal(name)] for name in names]


def download(folder: Path, packages: list[str], python: str) -> None:
    platforms = (f"manylinux_2_{minor}_x86_64" for minor in GLIBC)
    wanted = [word for platform in (*platforms, "manylinux2014_x86_64") for word in ("--platform", platform)]
    version = ("--python-version", python, "--implementation", "cp")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps"]
    subprocess.run([*command, "--only-binary=:all:", *version, *wanted, "-d", str(folder), *packages], check=True)


def unused(cuda: str) -> dict[str, re.Pattern[str]]:
    """Distribution -> the files of its wheel that are left out: a web application, kernels for other versions of CUDA."""
    return {
        "unsloth": re.compile(r"(studio|unsloth_cli)/"),
        "bitsandbytes": re.compile(rf"bitsandbytes/lib(?!bitsandbytes_(cpu|cuda{cuda})\b).*\.so"),
    }


def slim(wheel: Path, left_out: re.Pattern[str] | None) -> None:
    """Write the wheel again without those files, in its own list of files too."""
    if left_out is None:
        return
    smaller = wheel.with_suffix(".part")
    with ZipFile(wheel) as whole, ZipFile(smaller, "w", ZIP_DEFLATED) as part:
        for entry in whole.infolist():
            if left_out.match(entry.filename):
                continue
            content = whole.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                content = "".join(_kept(content.decode(), left_out)).encode()
            part.writestr(entry, content)
    smaller.replace(wheel)


def _kept(record: str, left_out: re.Pattern[str]) -> Iterator[str]:
    yield from (line for line in record.splitlines(keepends=True) if not left_out.match(line))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    typer.run(main)
