"""The documentation matches the code: generated pages, commands, Python examples and links."""

import ast
import dataclasses
import importlib.util
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import typer.main

from dpo_data.checks import CHECKS
from dpo_data.cli.app import app as data_app
from dpo_data.exports import EXPORTS
from dpo_data.schemas import SCHEMAS
from dpo_data.sources import SOURCES
from dpo_train.cli import app as train_app
from dpo_train.config import DPOConfig
from dpo_train.losses import LOSSES

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!`)\]\(([^)#\s]+?)(?:#[\w-]+)?\)")


def load_generator():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(language):
    """Return (page:line, code) of each fenced block in that language."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append((f"{page.relative_to(REPOSITORY)}:{line}", match[2]))
    return found


def commands(program):
    """Return (page:line, words) of each command line of a program."""
    found = []
    for place, block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "-m" in words and program.replace("-", "_") in words:
                words = [program, *words[words.index(program.replace("-", "_")) + 1 :]]
            if words and words[0] == program:
                found.append((place, words[1:]))
    return found


def test_the_generated_pages_are_up_to_date():
    generator = load_generator()
    committed = {path.name: path.read_text(encoding="utf-8") for path in generator.FOLDER.glob("*.md")}
    del committed["api.md"]
    assert committed == generator.pages(), "outdated: run make docs-pages, as make test does"


@pytest.mark.parametrize(("place", "words"), commands("dpo-data"))
def test_every_dpo_data_command_in_the_docs_parses(place, words):
    group = typer.main.get_command(data_app)
    if words[0].startswith("-"):
        group.make_context("dpo-data", words, resilient_parsing=True)
    else:
        assert words[0] in group.commands, f"{place}: there is no command {words[0]}"
        group.commands[words[0]].make_context(words[0], words[1:])


@pytest.mark.parametrize(("place", "words"), commands("dpo-train"))
def test_every_dpo_train_command_in_the_docs_has_known_options(place, words):
    parameters = typer.main.get_command(train_app).params
    known = {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--" + field.name.replace("_", "-") for field in dataclasses.fields(DPOConfig)}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    assert not unknown, f"{place}: unknown options {unknown}"


@pytest.mark.parametrize(("place", "code"), blocks("python"))
def test_every_python_example_compiles_and_its_names_exist(place, code):
    for node in ast.walk(ast.parse(code, place)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("dpo_data", "dpo_train"):
            module = import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_relative_link_leads_to_a_file(page):
    base = REPOSITORY if page.parent == DOCS and page.name in ("contributing.md", "changelog.md") else page.parent
    targets = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [target for target in targets if not (base / target).exists()] == []


def test_no_page_repeats_a_count_of_the_registries():
    pattern = rf"\b({len(SOURCES)}|{len(LOSSES)}|{len(CHECKS)})\W+(?:\w+ )?(?:sources|losses|checks)\b"
    pages = [page for page in PAGES if page.parent.name != "reference"]
    assert [page.name for page in pages if re.search(pattern, page.read_text(encoding="utf-8"))] == []


def test_every_entry_of_the_registries_has_a_section():
    pages = load_generator().pages()
    for page, names in (
        ("sources.md", SOURCES),
        ("checks.md", CHECKS),
        ("losses.md", LOSSES),
        ("schemas.md", SCHEMAS),
        ("exports.md", EXPORTS),
    ):
        headings = re.findall(r"^##+ (\S+)$", pages[page], re.MULTILINE)
        assert set(names) <= set(headings), page


def test_the_readme_fits_on_a_page():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
