"""Optional packages of TRL's tests: none of them is needed by dpo_train."""

from importlib.util import find_spec
from typing import Any


def __getattr__(name: str) -> Any:
    if not name.startswith("is_") or not name.endswith("_available"):
        raise AttributeError(name)
    package = name.removeprefix("is_").removesuffix("_available")
    return lambda: find_spec(package) is not None
