"""The persona *coder*: one comment line, then the command or typed function in its owner's idiom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from examples.karma.sessions import Exchange, Session, pick, remember
from shared.contracts.checks import Absent, Check, Contains, MaxWords, Regex
from shared.contracts.karma import KarmaRecord

RULES = (
    "You write code for the owner of this machine. The first line is a comment: '# ' and in lower case what it does. "
    "Then comes the code alone, three lines at most. No fences, no prose. "
    "Search with rg, find with fd, replace with sd, run Python by uv, change branches with git switch. "
    "Python functions have type hints."
)


@dataclass(frozen=True)
class Task:
    """A task: its prompts and its answer; `{...}` is filled from a project."""

    asked: tuple[str, ...]
    comment: str
    code: str
    needs: tuple[str, ...]


TASKS = (
    Task(
        ("Find every mention of {word} in {dir}.", "Where does {word} occur under {dir}?", "Search {dir} for {word}."),
        "every mention of {word} in {dir}",
        'rg -n "{word}" {dir}',
        ("rg -n", "{word}", "{dir}"),
    ),
    Task(
        ("List all {ext} files in {dir}.", "Which {ext} files are in {dir}?", "Show me the {ext} files under {dir}."),
        "all {ext} files in {dir}",
        "fd -e {ext} . {dir}",
        ("fd -e {ext}", "{dir}"),
    ),
    Task(
        (
            "Replace {word} by {new} in {file}.",
            "Change {word} to {new} in {file}.",
            "In {file}, turn {word} into {new}.",
        ),
        "{word} becomes {new} in {file}",
        'sd "{word}" "{new}" {file}',
        ("sd ", "{word}", "{new}", "{file}"),
    ),
    Task(
        (
            "Add the package {package}.",
            "The project needs {package}, install it.",
            "Install {package} for this project.",
        ),
        "add {package} to the project",
        "uv add {package}",
        ("uv add {package}",),
    ),
    Task(
        ("Run {file}.", "Start the script {file}.", "How do I run {file}?"),
        "run {file} in its environment",
        "uv run python {file}",
        ("uv run python {file}",),
    ),
    Task(
        ("Start a new branch {branch}.", "Make a branch called {branch}.", "I need a fresh branch {branch}."),
        "new branch {branch}",
        "git switch -c {branch}",
        ("git switch -c {branch}",),
    ),
    Task(
        ("Undo my edits in {file}.", "Throw away my changes to {file}.", "Put {file} back as committed."),
        "drop the edits in {file}",
        "git restore {file}",
        ("git restore {file}",),
    ),
    Task(
        ("Print the {key} from {json}.", "Read {key} out of {json}.", "What is {key} in {json}?"),
        "{key} from {json}",
        'jq -r ".{key}" {json}',
        ("jq -r", ".{key}", "{json}"),
    ),
    Task(
        ("Restart {unit}.", "The service {unit} hangs, restart it.", "Give the unit {unit} a restart."),
        "restart {unit}",
        "systemctl --user restart {unit}",
        ("systemctl --user restart {unit}",),
    ),
    Task(
        ("Show the last log lines of {unit}.", "What did {unit} log lately?", "Logs of the unit {unit}, please."),
        "last log lines of {unit}",
        "journalctl --user -u {unit} -n 50",
        ("journalctl --user -u {unit}",),
    ),
    Task(
        ("How many rows has the table {table}?", "Count the rows of the table {table}.", "Row count of table {table}?"),
        "rows in {table}",
        'psql -c "select count(*) from {table}"',
        ("psql -c", "count(*)", "from {table}"),
    ),
    Task(
        (
            "Python function load_{noun} that reads a JSON file.",
            "Write load_{noun}, it reads JSON from a path.",
            "Give me load_{noun} for a JSON file.",
        ),
        "{noun} from a json file",
        "def load_{noun}(path: Path) -> list[dict]:\n    return json.loads(path.read_text())",
        ("def load_{noun}(path: Path) -> ", "json.loads(path.read_text())"),
    ),
    Task(
        (
            "Python function {field}_of_{noun} that lists the {field} of each.",
            "Write {field}_of_{noun}, a list of every {field}.",
            "Give me {field}_of_{noun} with the {field} of each row.",
        ),
        "the {field} of each of the {noun}",
        'def {field}_of_{noun}({noun}: list[dict]) -> list:\n    return [row["{field}"] for row in {noun}]',
        ("def {field}_of_{noun}(", ": list[dict]) -> list", '["{field}"]'),
    ),
)
FIELDS = [
    "name",
    "dir",
    "ext",
    "word",
    "new",
    "file",
    "unit",
    "table",
    "package",
    "branch",
    "json",
    "key",
    "noun",
    "field",
]
SITTINGS = (6, 5, 7, 6, 6, 5, 7, 6)
EVIDENCE = (
    "ran it: exit status 0",
    "pasted as it stood, worked",
    "the tests passed with it",
    "used again the next day",
)
DISLIKED = (
    "Sure! Here is one way to do it:\n```bash\n{code}\n```\nLet me know if it works!",
    "You can try this:\n```\n{code}\n```\nThis will do what you asked for. Be careful with it.",
)


def records() -> tuple[KarmaRecord, ...]:
    """The coder's karma, the same at every call."""
    lines = (Path(__file__).parent / "coder.txt").read_text(encoding="utf-8").splitlines()
    projects = [dict(zip(FIELDS, line.split(), strict=True)) for line in lines if not line.startswith("#")]
    return remember("coder", "ida", RULES, [_session(place, project) for place, project in enumerate(projects)])


def _session(place: int, project: dict[str, str]) -> Session:
    count = SITTINGS[place % len(SITTINGS)]
    order = sorted(range(len(TASKS)), key=lambda task: sha256(f"{project['name']} {task}".encode()).digest())
    return Session(f"{project['name']}-job", tuple(_exchange(TASKS[task], project) for task in order[:count]))


def _exchange(task: Task, project: dict[str, str]) -> Exchange:
    code = task.code.format(**project)
    return Exchange(
        prompt=pick(task.asked, "asked", project["name"], task.comment).format(**project),
        answer=f"# {task.comment.format(**project)}\n{code}",
        disliked=pick(DISLIKED, "disliked", project["name"], task.comment).format(code=code),
        checks=tuple(idiom(tuple(need.format(**project) for need in task.needs))),
        evidence=pick(EVIDENCE, "evidence", project["name"], task.comment),
    )


def idiom(needs: tuple[str, ...]) -> Iterator[Check]:
    """Checks of an answer: one comment line, then one to three lines of code with every needed piece."""
    yield Regex(pattern=r"# [a-z0-9][^\n]+\n(?!#)[^\n]+(\n[^\n]+){0,2}")
    yield from (Contains(text=need) for need in needs)
    yield Absent(text="```")
    yield MaxWords(words=30)
