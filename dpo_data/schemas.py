"""JSON Schemas of the files of a prepared folder and of reports, with examples from the embedded sample.

`python -m dpo_data.schemas` writes those of this repository.
"""

import json
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel

from dpo_data.conversion.convert import convert
from dpo_data.errors import writing
from dpo_data.exports.export import export
from dpo_data.exports.report import ExportReport
from dpo_data.inspect import report_data
from dpo_data.inspect.diff import Comparison, diff
from dpo_data.inspect.report_data import DataReport
from dpo_data.inspect.validation import ValidationReport, validate
from dpo_data.prepared.manifest import Manifest
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.prepared.reader import open_prepared
from dpo_data.prepared.steps import ChangedPair, LeftOutPair, read_changes, read_left_out
from dpo_data.prepared.writer import write_json
from dpo_data.records import ConversationalRow, TextRow
from dpo_data.shaping.apply import apply
from dpo_data.shaping.decisions import Decision

SCHEMAS: dict[str, type[BaseModel]] = {
    "pair-text": TextRow,
    "pair-conversational": ConversationalRow,
    "manifest": Manifest,
    "quarantine-row": QuarantinedRow,
    "left-out-pair": LeftOutPair,
    "changed-pair": ChangedPair,
    "decision": Decision,
    "validation-report": ValidationReport,
    "data-report": DataReport,
    "comparison": Comparison,
    "export": ExportReport,
}


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a name in `SCHEMAS`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMAS[name].model_json_schema()}


def write_schemas(folder: str | Path) -> list[Path]:
    """Write every schema and its example; return the paths of both.

    Raises: UsageError: the folder cannot be written.
    """
    folder = Path(folder)
    paths = []
    examples = _examples()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in SCHEMAS:
            for path, content in (
                (folder / f"{name}.schema.json", json_schema(name)),
                (folder / f"{name}.example.json", examples[name]),
            ):
                write_json(path, content)
                paths.append(path)
    return paths


def _examples() -> dict[str, Any]:
    with TemporaryDirectory() as scratch:
        text, conversational = Path(scratch) / "text", Path(scratch) / "conversational"
        manifest = convert("hh-rlhf", sample=True, output=text)
        convert("hh-rlhf", sample=True, output=conversational, form="conversational")
        quarantined = (text / "quarantine" / "train.jsonl").read_text(encoding="utf-8").splitlines()[0]
        report = validate(text).model_copy(update={"path": "prepared"})
        data_report = report_data.report(text).model_copy(update={"path": "prepared", "validation": report})
        convert("hh-rlhf", sample=True, output=Path(scratch) / "other", forbid=["repeated_role"])
        comparison = diff(text, Path(scratch) / "other").model_copy(update={"a": "prepared", "b": "other"})
        ids = [row["id"] for row in next(open_prepared(text).batches("train")).slice(0, 2).to_pylist()]
        decisions = [
            Decision(
                id=ids[0], action="flip", note="Chosen evades the question.", by="ann", time="2026-11-25T10:00:00Z"
            ),
            Decision(id=ids[1], action="drop", by="ann"),
        ]
        lines = [decision.model_dump_json(exclude_none=True) for decision in decisions]
        (Path(scratch) / "decisions.jsonl").write_text("\n".join(lines), encoding="utf-8")
        applied = Path(scratch) / "applied"
        apply(Path(scratch) / "decisions.jsonl", text, output=applied)
        exported = export("trl", text, output=Path(scratch) / "trl")
        return {
            "pair-text": _first_row(text),
            "pair-conversational": _first_row(conversational),
            "manifest": manifest.model_dump(mode="json"),
            "quarantine-row": json.loads(quarantined),
            "left-out-pair": next(read_left_out(applied)).model_dump(exclude_none=True),
            "changed-pair": next(read_changes(applied)).model_dump(),
            "decision": json.loads(lines[0]),
            "validation-report": report.model_dump(mode="json"),
            "data-report": data_report.model_dump(mode="json"),
            "comparison": comparison.model_dump(mode="json"),
            "export": exported.model_dump(mode="json"),
        }


def _first_row(folder: Path) -> Any:
    return next(open_prepared(folder).batches("train")).slice(0, 1).to_pylist()[0]


def main() -> None:
    """Write the schemas to the folder that the command line names."""
    parser = ArgumentParser(description="Write the JSON Schemas of this version, each with an example.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("schemas"), help="default: schemas")
    for path in write_schemas(parser.parse_args().folder):
        print(path)


if __name__ == "__main__":
    main()
