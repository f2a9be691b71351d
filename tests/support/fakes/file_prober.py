"""Tries what it can do with files, as a job or as an account: `python -m tests.support.fakes.file_prober JOB.json [UID]`."""

import json
import os
import sys
from pathlib import Path


def can(operation: str, path: str) -> bool:
    """Whether this process can see, read, or write a file, or make it. What it makes is left: it may lie elsewhere."""
    try:
        match operation:
            case "see":
                return Path(path).name in os.listdir(Path(path).parent)  # noqa: PTH208
            case "read":
                return bool(Path(path).read_bytes()[:1])
            case "write":
                os.close(os.open(path, os.O_WRONLY))
            case _:
                Path(path).touch(exist_ok=False)
    except OSError:
        return False
    return True


def main(job_file: str, account: str | None = None) -> None:
    job = json.loads(Path(job_file).read_text())
    if account:
        os.setgroups([])
        os.setresgid(int(account), int(account), int(account))
        os.setresuid(int(account), int(account), int(account))
    text = json.dumps({"ok": True, "result": {"found": [can(operation, path) for operation, path in job["tries"]]}})
    if job["output"]:
        Path(job["output"], "result.json").write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
