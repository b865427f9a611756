"""pyproject.toml declares what the packages import, and the constraint files pin what it declares."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dpo_data
import dpo_train

ROOT = Path(__file__).parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
#: Extras for dpo_train; the others are for dpo_data.
TRAINING = {"train", "lora"}


def declared(*extras: str) -> set[str]:
    """Return the names of the default dependencies and those of the extras."""
    lines = [*PYPROJECT["project"]["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def pins(file: str) -> dict[str, str]:
    """Return the version that a constraints file pins each distribution to."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def imported(package: str, *, at_start: bool = False) -> set[str]:
    """Return the distributions a package imports; with `at_start`, only those that importing its modules loads."""
    distributions = packages_distributions()
    modules: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_start and (
            isinstance(node, ast.FunctionDef | ast.Lambda)
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            return
        if isinstance(node, ast.Import):
            modules.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.split(".")[0])
        for child in ast.iter_child_nodes(node):
            visit(child)

    for path in (ROOT / package).rglob("*.py"):
        visit(ast.parse(path.read_text(encoding="utf-8")))
    third_party = modules - sys.stdlib_module_names - {"dpo_data", "dpo_train"}
    return {canonicalize_name(distributions.get(module, [module])[0]) for module in third_party}


def test_every_import_of_dpo_data_is_declared() -> None:
    assert imported("dpo_data") - declared(*(EXTRAS.keys() - TRAINING)) == set()


def test_every_import_of_dpo_train_is_declared() -> None:
    assert imported("dpo_train") - declared(*TRAINING) == set()


def test_modules_of_dpo_data_load_without_extras() -> None:
    assert imported("dpo_data", at_start=True) - declared() == set()


def test_modules_of_dpo_train_load_with_the_extra_train() -> None:
    assert imported("dpo_train", at_start=True) - declared("train") == set()


def test_every_declared_dependency_is_imported() -> None:
    assert declared(*EXTRAS) - imported("dpo_data") - imported("dpo_train") == set()


def test_torch_is_only_in_the_extra_train() -> None:
    assert "torch" not in declared()
    assert "torch" in declared("train")


def test_the_lowest_versions_that_are_tested_are_the_declared_ones() -> None:
    pinned = pins("constraints-lowest.txt")
    for line in [*PYPROJECT["project"]["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]:
        requirement = Requirement(line)
        lowest = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        assert [pinned[canonicalize_name(requirement.name)]] == lowest, line


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-lowest.txt"])
def test_constraints_pin_every_dependency_to_an_allowed_version(file: str) -> None:
    pinned = pins(file)
    groups = PYPROJECT["dependency-groups"]
    tools = groups["test"] if file == "constraints-lowest.txt" else [*groups["test"], *groups["lint"]]
    lines = [*PYPROJECT["project"]["dependencies"], *(line for lines in EXTRAS.values() for line in lines), *tools]
    for requirement in map(Requirement, lines):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_both_packages_have_the_version_of_the_distribution() -> None:
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "dpo_data/__init__.py"
    assert dpo_data.__version__ == dpo_train.__version__
