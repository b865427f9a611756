PYTHON ?= python3
BIN := .venv/bin
# -qq: errors only.
PIP_INSTALL := -m pip install -qq --disable-pip-version-check
EXTRAS := train,lora,checks,recipes
# Trials of the campaign, as a multiple of those that take minutes.
SCALE ?= 1
# Neither the demo nor the tests use the network.
export HF_HUB_OFFLINE := 1
# One process a core, at most eight: each loads torch.
PYTEST := pytest -q --numprocesses logical --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo venv lint test test-all test-lowest campaign docs docs-pages schemas clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed-train ## run the whole pipeline on the embedded sample, offline, into demo/
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh demo

venv: .venv/installed-dev ## install both packages, every extra and the development tools into .venv

lint: .venv/installed-dev ## ruff, ruff format and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint docs-pages ## lint, docs/reference/ anew, and the tests that are not marked slow, in less than five minutes
	$(BIN)/$(PYTEST) -m "not slow"

test-all: lint docs-pages ## lint, docs/reference/ anew, and every test
	$(BIN)/$(PYTEST)

test-lowest: .venv-lowest/installed ## the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	.venv-lowest/bin/$(PYTEST) -m "not slow"

campaign: .venv/installed-dev ## kill runs, damage files and break inputs at random, with two seeds; SCALE=20 for hours
	$(BIN)/python benchmarks/campaign/run.py --seed 1 2 --scale $(SCALE)

docs: .venv/installed-docs ## build the site into site/, offline
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-pages: .venv/installed-dev ## write docs/reference/ again from the code
	$(BIN)/python docs/generate.py

schemas: .venv/installed-dev ## write schemas/ again, after a change of an on-disk format
	$(BIN)/python -m dpo_data.schemas

clean: ## remove the virtual environments, the demo, the site and the builds
	rm -rf .venv .venv-lowest demo dist site

.venv/bin/python .venv-lowest/bin/python:
	$(PYTHON) -m venv $(@:/bin/python=)

.venv/installed-train: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[train]'
	touch $@

# The constraints also pin a pip that can install dependency groups (25.1 or later).
.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt pip
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[$(EXTRAS)]' --group dev
	touch $@ .venv/installed-train

.venv/installed-docs: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt pip
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --group docs
	touch $@

.venv-lowest/installed: .venv-lowest/bin/python pyproject.toml constraints-lowest.txt
	.venv-lowest/bin/python $(PIP_INSTALL) --constraint constraints-lowest.txt pip
	.venv-lowest/bin/python $(PIP_INSTALL) --constraint constraints-lowest.txt --editable '.[$(EXTRAS)]' --group test
	touch $@
