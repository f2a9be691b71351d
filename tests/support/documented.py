"""The commands that the documents show, the targets of the Makefile, and in which short form each target is tested."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

from deploy.cli.main import app
from shared.config.settings import PROJECT

DOCUMENTS = [*sorted(PROJECT.glob("[A-Z]*.md")), *sorted((PROJECT / "docs").glob("*.md"))]
DOCUMENTS.remove(PROJECT / "CHANGELOG.md")
MAKEFILE = PROJECT / "Makefile"
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"\w+=.*")
ENDS = {">", ">>", "|", "&&", ";"}
PROGRAMS = {"soulforge", "make", "nats", "git", "cd", "curl"}

#: Target -> the words with which it is short; the acceptance tests run it like this.
SHORT_FORMS: dict[str, tuple[str, ...]] = {
    "help": (),
    "up": (),
    "down": (),
    "bench-harvest": ("ROWS=1000",),
    "bench-handover": ("DRIVERS=process", "ROUNDS=1"),
    "bench-gateway": ("UPSTREAMS=stub", "ROUNDS=1"),
    "bench-replay": ("ROWS=8", "SEEDS=0", "PERSONAS=scribe", "ITEMS=2"),
    "bench-memory": ("WORDS=narrow 256 r64",),
    "bench-redaction": ("SEEDS=6",),
    "bench-gate": ("CANDIDATES=60", "HOLDOUTS=2"),
    "contracts": (),
    "karma": (),
    "suite": (),
}
#: Target -> why it is only parsed (`make -n`).
NOT_RUN: dict[str, str] = {
    "setup": "installs for minutes, and what the tests run in",
    "setup-unsloth": "installs for minutes; the tests of the engine run in it",
    "setup-ray": "installs for a minute; the tests of the executor run in it",
    "check": "runs before these tests, and contains the test of this list",
    "test": "these tests themselves",
    "test-integration": "a part of `make test`, which runs these tests",
    "test-sandbox": "a part of `make test-integration`; CI runs it once more, as an ordinary account",
    "test-docker": "needs a container engine; CI runs its tests",
    "test-handover": "an hour, and there is no short form of thirty evacuations",
    "test-fuzz": "30 minutes; a share of it is a test of `make test-integration`",
    "test-chaos": "13 minutes; a history is a test of its own, which starts every server and service",
    "test-resume": "10 minutes; a stop and a kill of one run are a test of their own",
    "bench-forge": "minutes of training; the tests of the jobs train with each engine for some steps",
    "bench-verify": "minutes of evaluations; the tests of the jobs run the evaluator on a real base",
    "bench-losses": "minutes of training; the tests of the jobs train each loss for some steps",
    "test-openapi": "installs an environment of its own",
    "ritual": "the end-to-end tests run the same module, for both personas",
    "gpu-check": "needs an NVIDIA GPU; a rehearsal of it on the CPU is a test of its own",
    "gpu-wheels": "downloads packages for another machine",
    "bench-binding": "half an hour; the end-to-end tests make the same proof on a real vLLM",
    "lock": "resolves and downloads every package",
    "clean": "removes what the tests run in",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    document: str
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command as a document shows it; `words` are what follows the program, without comments and redirections."""

    document: str
    program: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join((self.program, *self.words))}"


def list_targets() -> list[str]:
    return re.findall(r"^([a-z][a-z-]*):", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE)


def list_code_blocks(language: str) -> list[Block]:
    """The fenced blocks of all documents in this language."""
    found = []
    for document in DOCUMENTS:
        for name, text in BLOCK.findall(document.read_text(encoding="utf-8")):
            found += [Block(_name(document), name, text)] if name == language else []
    return found


def list_commands(program: str) -> list[Command]:
    """Every line of a block of shell that runs this program."""
    lines = ((block.document, line) for block in list_code_blocks("sh") for line in block.text.splitlines())
    return _unique(Command(document, program, words) for document, line in lines for words in _calls(program, line))


def list_unknown_lines() -> list[str]:
    """The lines of shell that run none of the programs which the tests know."""
    lines = (line.strip() for block in list_code_blocks("sh") for line in block.text.splitlines())
    return [line for line in lines if line and not any(list(_calls(name, line)) for name in PROGRAMS)]


def list_mentions(program: str) -> list[Command]:
    """Every command of this program in running text, up to its first argument."""
    found = []
    for document in DOCUMENTS:
        prose = BLOCK.sub("", document.read_text(encoding="utf-8"))
        for span in re.findall(rf"`{program} ([^`]+)`", prose):
            words = re.match(r"[a-z-]*( [a-z-]+)*", span)
            found.append(Command(_name(document), program, tuple((words[0] if words else "").split())))
    return _unique(iter(found))


def parse_soulforge(words: tuple[str, ...]) -> None:
    """Parse the words of a `soulforge` command without running it. Raises TyperException; `--help` prints the help."""
    _parse(_soulforge(), "soulforge", list(words), None)


def _parse(command: Any, name: str, words: list[str], parent: Any) -> None:
    try:
        context = command.make_context(name, words, parent=parent)
    except typer.Exit:
        return
    words = [*context._protected_args, *context.args]
    if hasattr(command, "resolve_command") and (words or not command.invoke_without_command):
        inner_name, inner, rest = command.resolve_command(context, words)
        _parse(inner, inner_name, rest, context)


@cache
def _soulforge() -> Any:
    return typer.main.get_command(app)


def _calls(program: str, line: str) -> Iterator[tuple[str, ...]]:
    """The words after each call of the program in a line of shell."""
    call: list[str] | None = None
    start = True
    for word in [*shlex.split(line, comments=True), ";"]:
        if word in ENDS:
            if call is not None:
                yield tuple(call)
            call, start = None, word in {"&&", ";", "|"}
        elif start and ASSIGNMENT.fullmatch(word):
            continue
        elif start:
            call, start = ([] if word == program else None), False
        elif call is not None:
            call.append(word)


def _name(document: Path) -> str:
    return str(document.relative_to(PROJECT))


def _unique(commands: Iterator[Command]) -> list[Command]:
    return list(dict.fromkeys(commands))
