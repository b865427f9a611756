"""A finished run, shared by the tests that only look at it."""

from pathlib import Path

import pytest
from train_cli import QUICK, Trained, dpo_train

from dpo_data import convert


@pytest.fixture(scope="session")
def trained(raw_pairs: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    data, run = folder / "prepared", folder / "run"
    convert("pairs", [raw_pairs], output=data, test_fraction=0.25)
    words = (*QUICK, "--generate-samples", 2, "--max-length", 60)
    result = dpo_train("--data", data, "--model", model_folder, "--output", run, *words)
    assert result.exit_code == 0, result.stderr
    return Trained(run, data, result)
