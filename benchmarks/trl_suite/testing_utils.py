"""The parts of `testing_utils` that TRL's tests import: a temporary folder and marks for optional packages."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch


def _require(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}")


require_bitsandbytes = _require("bitsandbytes")
require_no_wandb = pytest.mark.skipif(find_spec("wandb") is not None, reason="needs that wandb is missing")
require_kernels = _require("kernels")
require_liger_kernel = _require("liger_kernel")
require_peft = _require("peft")
require_vision = _require("PIL")


class TrlTestCase:
    @pytest.fixture(autouse=True)
    def _set_tmp_dir(self, tmp_path: Path) -> None:
        self.tmp_dir = str(tmp_path)


def is_ampere_or_newer() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
