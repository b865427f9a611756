"""The layers of both packages, the cost of starting them, and their public names."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Layers of each package, from the top. A module may import modules of its own layer and of those below it.
LAYERS = {
    "dpo_data": [
        {"cli", "__main__"},
        {"schemas"},
        {"reports"},
        {"inspect", "shaping", "exports"},
        {"conversion", "tokens"},
        {"engine", "checks", "sources", "readers", "pairing", "prepared"},
        {"boundary", "dialogue", "records", "ragged", "run_pairs", "word_diff", "excerpts", "slices"},
        {"expressions"},
        {"errors", "options"},
        {"escapes"},
    ],
    "dpo_train": [
        {"cli", "__main__"},
        {"run"},
        {"trainer"},
        {"reference", "logprobs", "diagnosis", "displacement"},
        {"data", "batches", "attention", "config", "sharding"},
        {"objective"},
        {"adapters", "models", "losses", "memory", "options"},
    ],
}
#: The packages of dpo_train that import dpo_data, apart from its exceptions, and what they import: `data` reads
#: prepared folders, their tokens, transcripts, and messages in any notation, `run` writes its report with the pages of
#: dpo_data, `cli` is run as dpo-data is.
BRIDGES = {
    "dpo_train": {"__init__"},  # for __version__
    "dpo_train.cli": {"cli"},
    "dpo_train.data": {"dialogue", "options", "prepared", "records", "run_pairs", "sources", "tokens"},
    "dpo_train.trainer": {"prepared"},  # which hashes files
    "dpo_train.run": {"inspect", "options", "prepared", "reports", "run_pairs"},
}
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
        # Results of all layers are drawn by reports, which is imported when a notebook displays one.
        if isinstance(node, ast.FunctionDef) and node.name == "_repr_html_":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def module(name: str) -> str:
    """Return the top-level module or package of a dotted name."""
    return name.split(".")[1] if "." in name else "__init__"


@pytest.mark.parametrize("package", LAYERS)
def test_every_module_belongs_to_a_layer(package: str) -> None:
    found = {module(name) for name in modules(package)} - {"__init__"}
    assert found == set().union(*LAYERS[package])


@pytest.mark.parametrize("package", LAYERS)
def test_imports_never_point_to_a_higher_layer(package: str) -> None:
    level = {name: number for number, layer in enumerate(LAYERS[package]) for name in layer}
    upward = [
        f"{name} -> {imported}"
        for name, path in modules(package).items()
        if module(name) != "__init__"
        for imported in imports(path)
        if imported.startswith(f"{package}.") and level[module(imported)] < level[module(name)]
    ]
    assert upward == []


@pytest.mark.parametrize("package", LAYERS)
def test_modules_do_not_import_each_other_in_a_cycle(package: str) -> None:
    files = modules(package)
    graph = {name: {i for i in imports(path, at_top=True) if i in files and i != name} for name, path in files.items()}
    TopologicalSorter(graph).prepare()


def test_dpo_data_imports_neither_torch_nor_dpo_train() -> None:
    files = modules("dpo_data")
    assert len(files) > 20
    guilty = [name for name, path in files.items() if {i.split(".")[0] for i in imports(path)} & {"torch", "dpo_train"}]
    assert guilty == []


def test_few_packages_of_dpo_train_import_dpo_data() -> None:
    beyond_errors: dict[str, set[str]] = {}
    for name, path in modules("dpo_train").items():
        for imported in imports(path):
            if imported.split(".")[0] == "dpo_data" and imported != "dpo_data.errors":
                beyond_errors.setdefault(".".join(name.split(".")[:2]), set()).add(module(imported))
    assert beyond_errors == BRIDGES


@pytest.mark.parametrize("module", ["dpo_data.cli.app", "dpo_train.cli"])
def test_help_loads_nothing_heavy(module: str) -> None:
    code = f"import sys; sys.argv[1:] = ['--help']\nfrom {module} import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print('loaded:', *sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    help_text, _, loaded = output.rpartition("loaded:")
    assert "Usage" in help_text
    assert {name.split(".")[0] for name in loaded.split()} & HEAVY == set()


def test_a_registry_is_a_literal() -> None:
    tree = ast.parse((ROOT / "dpo_data" / "sources" / "__init__.py").read_text())
    (value,) = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SOURCES"
    ]
    assert isinstance(value, ast.Dict)
