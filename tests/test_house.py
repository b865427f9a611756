"""The house as design.md draws it: which way imports run, how light a start is, and which names are public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dpo_data
import dpo_train

ROOT = Path(__file__).parent.parent

#: Floors of each package, from the top. A room may import the rooms of its own floor and of those below.
FLOORS = {
    "dpo_data": [
        {"cli", "__main__"},
        {"schemas"},
        {"report"},
        {"overview", "comparing", "lineage"},
        {"showing", "validation", "sniffing", "statistics"},
        {"conversion", "tokenization"},
        {"encoding", "card", "rows", "sources", "checks", "pairing", "forms"},
        {"prepared", "truncation"},
        {"records", "transcripts", "word_diff"},
        {"errors", "options"},
    ],
    "dpo_train": [
        {"cli", "__main__"},
        {"run"},
        {"report", "trainer"},
        {"precompute"},
        {"probe", "checkpoints", "reference", "data"},
        {"store", "batching", "config", "diagnosis"},
        {"attention"},
        {"logps"},
        {"models", "lean", "losses", "memory"},
    ],
}
#: The one bridge, beside the errors and the version that everybody speaks.
BRIDGE = {"dpo_train.data"}
HEAVY = {"torch", "transformers", "datasets", "pandas", "pydantic", "pyarrow", "numpy"}


def modules(package: str) -> dict[str, Path]:
    """Dotted name -> file of every module of a package, the embedded sample's script apart."""
    paths = sorted((ROOT / package).rglob("*.py"))
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    return {name: path for name, path in names.items() if not name.startswith("dpo_data.sample")}


def imports(path: Path, *, at_top: bool = False) -> set[str]:
    """Dotted names that a module imports; with `at_top` only those that importing it loads."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if at_top and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_stands_on_a_floor(package: str) -> None:
    rooms = {room(name) for name in modules(package)} - {"__init__"}
    assert rooms == set().union(*FLOORS[package])


@pytest.mark.parametrize("package", FLOORS)
def test_imports_never_run_upstairs(package: str) -> None:
    level = {room_: number for number, floor in enumerate(FLOORS[package]) for room_ in floor}
    upstairs = [
        f"{name} -> {imported}"
        for name, path in modules(package).items()
        if room(name) != "__init__"
        for imported in imports(path)
        if imported.startswith(f"{package}.") and level[room(imported)] < level[room(name)]
    ]
    assert upstairs == []


def test_dpo_data_imports_neither_torch_nor_dpo_train() -> None:
    files = modules("dpo_data")
    assert len(files) > 20
    guilty = [name for name, path in files.items() if {i.split(".")[0] for i in imports(path)} & {"torch", "dpo_train"}]
    assert guilty == []


def test_dpo_train_reads_dpo_data_through_one_room() -> None:
    beyond_errors = {
        name
        for name, path in modules("dpo_train").items()
        for imported in imports(path)
        if imported.split(".")[0] == "dpo_data" and imported != "dpo_data.errors"
    }
    assert beyond_errors == BRIDGE


@pytest.mark.parametrize("package", ["dpo_data", "dpo_train"])
def test_help_loads_nothing_heavy(package: str) -> None:
    code = (
        f"import sys; sys.argv[1:] = ['--help']\nfrom {package}.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    )
    code += "print('loaded:', *sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    help_text, _, loaded = output.rpartition("loaded:")
    assert "Usage" in help_text
    assert {name.split(".")[0] for name in loaded.split()} & HEAVY == set()


@pytest.mark.parametrize("package", [dpo_data, dpo_train])
def test_public_names_are_listed_and_load(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert len(set(names)) == len(names) > 3
    assert all(getattr(package, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_a_registry_is_a_literal() -> None:
    tree = ast.parse((ROOT / "dpo_data" / "sources" / "__init__.py").read_text())
    (value,) = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SOURCES"
    ]
    assert isinstance(value, ast.Dict)
