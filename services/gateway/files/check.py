"""Check a file, in a process of its own: `python -m services.gateway.files.check FILE` prints the result as JSON."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from services.gateway.files.records import read_examples
from shared.contracts.frozen import Frozen
from shared.import_formats.parser import Fault
from shared.import_formats.record import ImportDefaults

SHOWN = 20
MOST_WRONG = 1000  # lines after which the rest is not read
LONGEST = 200  # characters of one fault
NICE = 10
MEMORY = 2 * 1024**3
#: With a name as long as a file's id: it begins the names of the records' sessions, which have a longest length.
ANY_PERSONA = ImportDefaults("check", f"file-{'0' * 24}", persona="check")


class Checked(Frozen):
    """How many examples can be used, how many records they make, and what is wrong with the others."""

    examples: int
    records: int
    wrong: int
    faults: tuple[str, ...]

    @property
    def why(self) -> str | None:
        """Why the file cannot be used, by its lines; None where it can."""
        if not self.examples and not self.wrong:
            return "the file is empty: expected a JSON object in each line"
        if not self.wrong:
            return None
        least = "at least " if self.wrong >= MOST_WRONG else ""
        rest = f"; and {least}{self.wrong - SHOWN} more lines" if self.wrong > SHOWN else ""
        return "; ".join(self.faults) + rest


def check(path: Path) -> Checked:
    """Read every example."""
    examples = records = wrong = 0
    faults: list[str] = []
    for line, found in read_examples(path, ANY_PERSONA):
        if not isinstance(found, Fault):
            examples, records = examples + 1, records + len(found.records)
            continue
        wrong += 1
        if len(faults) < SHOWN:
            faults.append(f"line {line}: {found.why[:LONGEST]}")
        if wrong >= MOST_WRONG:
            break
    return Checked(examples=examples, records=records, wrong=wrong, faults=tuple(faults))


def main() -> None:
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(check(Path(sys.argv[1])).model_dump_json())


if __name__ == "__main__":
    main()
