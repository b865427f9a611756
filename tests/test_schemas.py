"""The committed JSON Schemas are those of the models, and their examples are real and valid."""

import json
from pathlib import Path

import jsonschema
import pytest

from dpo_data import convert
from dpo_data.schemas import SCHEMAS, main, write_schemas

COMMITTED = Path(__file__).parents[1] / "schemas"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schemas")
    return {path.name: path.read_bytes() for path in write_schemas(folder)}


def test_the_committed_schemas_and_examples_are_what_the_command_writes(fresh):
    committed = {path.name: path.read_bytes() for path in COMMITTED.iterdir()}
    assert committed == fresh, "out of date: python -m dpo_data.schemas"


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_example_is_valid_and_not_empty(fresh, name):
    schema, example = (json.loads(fresh[f"{name}.{kind}.json"]) for kind in ("schema", "example"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(example, schema, jsonschema.Draft202012Validator)
    SCHEMAS[name].model_validate(example)
    assert example


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_refuses_an_unknown_field_and_a_missing_field(fresh, name):
    schema, example = (json.loads(fresh[f"{name}.{kind}.json"]) for kind in ("schema", "example"))
    validator = jsonschema.Draft202012Validator(schema)
    assert not validator.is_valid({**example, "unknown": 1})
    required = schema["required"]
    assert required
    for field in required:
        assert not validator.is_valid({key: value for key, value in example.items() if key != field})


def test_every_quarantined_row_of_the_sample_is_valid(fresh, tmp_path):
    convert("hh-rlhf", sample=True, output=tmp_path / "out")
    validator = jsonschema.Draft202012Validator(json.loads(fresh["quarantine-row.schema.json"]))
    lines = [
        line
        for path in (tmp_path / "out" / "quarantine").iterdir()
        for line in path.read_text(encoding="utf-8").split("\n")
        if line
    ]
    assert len(lines) > 5
    for line in lines:
        validator.validate(json.loads(line))


def test_the_module_writes_the_schemas(fresh, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["schemas", str(tmp_path / "schemas")])
    main()
    assert {path.name: path.read_bytes() for path in (tmp_path / "schemas").iterdir()} == fresh
    assert len(capsys.readouterr().out.splitlines()) == len(fresh)


def test_the_manifest_on_disk_is_valid(fresh, tmp_path):
    convert("hh-rlhf", sample=True, output=tmp_path / "out")
    validator = jsonschema.Draft202012Validator(json.loads(fresh["manifest.schema.json"]))
    validator.validate(json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")))
