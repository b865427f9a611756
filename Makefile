PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test docs docs-pages clean

demo: .venv/installed-train  ## the main job on the embedded sample, offline
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh demo

test: .venv/installed-dev  ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q

docs: .venv/installed-docs  ## build the site into site/, offline
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-pages: .venv/installed-dev  ## write docs/reference/ anew from the code
	$(BIN)/python docs/generate.py

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed-train: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[train]'
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	touch $@ .venv/installed-train

# pip==26.3 of the constraints, because the one of python -m venv may not know dependency groups.
.venv/installed-docs: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) pip
	$(PIP) --group docs
	touch $@

clean:
	rm -rf .venv demo site
