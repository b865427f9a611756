PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test clean

demo: .venv/installed-train  ## the main job on the embedded sample, offline
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh demo

test: .venv/installed-dev  ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed-train: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[train]'
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	touch $@ .venv/installed-train

clean:
	rm -rf .venv demo
