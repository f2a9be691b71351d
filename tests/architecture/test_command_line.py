"""The command line reads other owners' rows through their views only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config.settings import PROJECT

CLI = PROJECT / "deploy" / "cli"
SQL = re.compile(r"\b(SELECT|INSERT INTO|DELETE FROM)\s|\bUPDATE \S+ SET\b")
READ = re.compile(r"services\.\w+\.views|shared\.ritual\.(views|ledger)|shared\.messaging\.dead_letters")
# What the command line asks an owner to do, besides reading.
DONE = {
    "services.harvester.explain",  # a harvest decides about one record, and keeps nothing
    "services.harvester.ingest.karma",  # an import of karma goes through the harvester's own guarded statements
    "services.registry.decisions",  # a decision about a version is the registry's own transaction, also where a person makes it
    "services.registry.policy",  # the aliases after it
    "services.registry.bundle",  # a bundle is checked where it is, without a database
    "services.verifier.sealed",  # and its verdict recomputed
    "services.gateway.keys.key",  # what a key is
    "services.gateway.keys.store",  # a key is added and revoked by the gateway's own statements
    "services.orchestrator.engine_command",  # `runes create` makes the containers that the orchestrator starts
    "services.verifier.answers",  # what both arms answered, from the file that the evaluator wrote
    "shared.messaging.client",  # the connection to the bus, with the key of a role
    "shared.messaging.streams",  # the names of the streams
}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it; `from a import b` is `a.b` where that is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if is_module(whole) else node.module


def is_module(name: str) -> bool:
    path = PROJECT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


# What writes to a terminal by itself, past the console.
PAST_THE_CONSOLE = re.compile(
    r"print|input|pprint\.\w+|os\.write|sys\.(__)?std(out|err)(__)?(\..*)?|(typer|click)\.(echo\w*|secho|prompt|confirm|progressbar)"
    r"|rich\.print\w*|(rich\.console\.)?Console|logging\.(StreamHandler|basicConfig|lastResort)|traceback\.print_\w+"
)


def written(tree: ast.AST) -> Iterator[str]:
    """Every name in the file, as it is written out, that writes past the console."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and PAST_THE_CONSOLE.fullmatch(name := ast.unparse(node)):
            yield name
        elif isinstance(node, ast.ImportFrom):
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if PAST_THE_CONSOLE.fullmatch(name))


def test_commands_write_through_the_console_alone() -> None:
    files = [*CLI.rglob("*.py"), PROJECT / "deploy" / "ritual.py"]
    found = {path.name: set(written(ast.parse(path.read_text(encoding="utf-8")))) for path in files}

    assert {path: names for path, names in found.items() if names and path not in ("console.py", "live.py")} == {}
    assert found["console.py"] == {"print", "rich.console.Console", "Console", "sys.stderr"}
    assert found["live.py"] == {"rich.console.Console", "Console"}, "the type of the console that it is given"


@pytest.mark.parametrize(
    "code",
    [
        "print('x')",
        "import sys\nsys.stdout.write('x')",
        "import typer\ntyper.echo('x')",
        "from typer import echo",
        "from sys import stdout",
        "from rich import print",
        "from rich.console import Console as C",
        "out = Console()",
        "import os\nos.write(1, b'x')",
        "import traceback\ntraceback.print_exc()",
    ],
)
def test_what_writes_past_the_console_is_found(code: str) -> None:
    assert list(written(ast.parse(code)))


def test_the_command_line_has_no_sql() -> None:
    found = [str(path.relative_to(CLI)) for path in CLI.rglob("*.py") if SQL.search(path.read_text(encoding="utf-8"))]

    assert found == []


def test_the_command_line_imports_only_what_owners_offer_to_readers() -> None:
    owned = re.compile(r"(services|shared\.(ritual|messaging))\.")
    found = {(path.name, name) for path in CLI.rglob("*.py") for name in imported(path) if owned.match(name)}

    assert {(file, name) for file, name in found if not READ.fullmatch(name) and name not in DONE} == set()
    assert {name for _, name in found} >= DONE, "an exception that nothing needs"
