"""The public names of both packages."""

import inspect

import pytest

import dpo_data
import dpo_train
from dpo_data.cli.app import COMMANDS

#: Commands whose function has another name: a package or a module of dpo_data has the command's.
FUNCTIONS = {"sources": "list_sources", "schema": "write_schemas", "sample": "sample_pairs"}


@pytest.mark.parametrize("package", [dpo_data, dpo_train])
def test_public_names_are_listed_and_load(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert len(set(names)) == len(names) > 3
    assert set(names) <= set(dir(package))
    assert all(getattr(package, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'; it offers "):
        package.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_function(command: object) -> None:
    name = command.__name__  # type: ignore[attr-defined]
    assert FUNCTIONS.get(name, name) in dpo_data.__all__
    assert callable(getattr(dpo_data, FUNCTIONS.get(name, name)))


@pytest.mark.parametrize(
    "name", [f"{package.__name__}.{name}" for package in (dpo_data, dpo_train) for name in package.__all__]
)
def test_every_public_function_and_type_has_a_docstring(name: str) -> None:
    package, _, attribute = name.partition(".")
    found = getattr({"dpo_data": dpo_data, "dpo_train": dpo_train}[package], attribute)
    if inspect.isclass(found) or inspect.isfunction(found):
        assert inspect.getdoc(found)
    else:
        assert isinstance(found, dict)


@pytest.mark.parametrize("name", dpo_data.__all__)
def test_the_functions_accept_paths_as_text(name: str) -> None:
    found = getattr(dpo_data, name)
    if inspect.isfunction(found):
        for parameter in inspect.signature(found).parameters.values():
            if "Path" in str(parameter.annotation):
                assert "str" in str(parameter.annotation), f"{name}({parameter.name})"


def test_both_packages_have_the_version_of_the_distribution() -> None:
    assert dpo_data.__version__ == dpo_train.__version__
