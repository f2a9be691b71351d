"""Write the example karma beside its generators: `python -m examples.karma`."""

from __future__ import annotations

from pathlib import Path

from examples.karma import coder, scribe
from shared.contracts.karma import KarmaRecord

PERSONAS = {"scribe": scribe.records, "coder": coder.records}


def lines(records: tuple[KarmaRecord, ...]) -> str:
    """The records as JSON lines, fields in the order of the contract, without empty ones."""
    return "".join(
        record.model_dump_json(
            exclude_none=True,
            exclude={"messages": {"__all__": {"tool_calls"}}, "kind": True, "tools": True, "purposes": True},
        )
        + "\n"
        for record in records
    )


if __name__ == "__main__":
    for persona, records in PERSONAS.items():
        (Path(__file__).parent / f"{persona}.jsonl").write_text(lines(records()), encoding="utf-8")
