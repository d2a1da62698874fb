# The only list of commands. `make` alone prints it.

PYTHON ?= python3
BIN := .venv/bin
# Byte code is made when a module is first used: 80 MB and ten seconds less than making all of it here.
PIP := $(BIN)/pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help environment up install test test-long lint audit format bench bench-files bench-page train-deps train evaluate screenshots pins clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: .venv/.default ## Install what is needed and start Rubrika on this machine; Ctrl-C stops it
	@exec $(BIN)/rubrika up

install: .venv/.default ## Install the same and start nothing: for a machine that is to be a worker, or an API, of several

test: .venv/.dev ## Run all tests: unit, integration (real servers) and e2e (real processes, and Chromium: CHROMIUM=PATH)
	@$(BIN)/python -m pytest tests/unit tests/integration tests/e2e $(ARGS)

# The seed of what is random in them; the one that is printed repeats a run. MINUTES is how long the soak goes on.
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')

test-long: .venv/.dev ## Kill, wipe, drop, fuzz and weigh for two hours, at random: make test-long SEED=... MINUTES=60
	@echo "SEED=$(SEED)"
	@SEED=$(SEED) $(BIN)/python -m pytest tests -m long --hypothesis-seed=$(SEED) -s $(ARGS)

lint: .venv/.dev ## Check style, types and the arrows of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

audit: .venv/.audit ## Ask PyPI for known weaknesses of the pinned versions; what cannot be asked about fails
	@.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt $(ARGS) \
		|| { echo "The audit has not passed. A table above names weaknesses that were found; an error above instead means that" >&2; \
			echo "the advisories of PyPI could not be asked (no internet, or a mirror without them), and nothing is known." >&2; exit 1; }

format: .venv/.dev ## Format the code and mend what can be mended without asking
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Results are printed; KEEP=1 writes them into bench/results as well, in the place of those that are there.
WRITE = $(if $(filter 1,$(KEEP)),--keep)

bench: .venv/.default ## Measure: latency of one text, throughput of a file (KEEP=1 writes results to bench/results)
	@$(BIN)/python -m bench.latency $(WRITE) $(ARGS)
	@$(BIN)/python -m bench.throughput $(WRITE) $(ARGS)

bench-files: .venv/.dev ## Measure files of a million rows: accepted, worked off, asked about, exported (KEEP=1)
	@$(BIN)/python -m bench.files $(WRITE) $(ARGS)

bench-page: .venv/.dev ## Measure the pages in a browser: first visits, and a job of a million rows (KEEP=1)
	@$(BIN)/python -m bench.page $(WRITE) $(ARGS)

train-deps: .venv/.train ## Install what training needs (torch, transformers, scikit-learn)

train: .venv/.train ## Train a model: make train ARGS="DATA --base BASE --out MODEL"
	@$(BIN)/rubrika train $(ARGS)

evaluate: .venv/.train ## Measure a model: make evaluate ARGS="MODEL DATA"
	@$(BIN)/rubrika evaluate $(ARGS)

screenshots: .venv/.dev ## Take pictures of the page in a headless browser
	@$(BIN)/python -m tests.e2e.screenshots $(ARGS)

pins: .venv/.python ## Write the versions that are installed into constraints.txt; `make clean pins` renews them
	@$(BIN)/pip install --quiet torch==2.13.0
	@$(BIN)/pip install --quiet --editable '.[train,dev]'
	@{ grep '^#' constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/^torch==\([0-9.]*\).*/torch==\1/'; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## Remove the virtual environment and all caches; data of Rubrika stays
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# After an upgrade of Python, or in a folder that was moved or copied, what lies in .venv is not found, or that of another
# folder is; and to install into it does not mend that. So what is installed has to lead here. Nothing of it is imported:
# that would take longer, and new dependencies may still be missing.
environment:
	@test ! -e .venv/.default \
		|| $(BIN)/python -I -c 'import os, sys; from importlib.util import find_spec; sys.exit(not os.path.samefile(find_spec("cli").origin, "cli/__init__.py"))' 2>/dev/null \
		|| { echo "The environment in .venv is of another Python or another place: make clean $(MAKECMDGOALS) (your data stays)." >&2; exit 1; }

# Each of these files says that the virtual environment holds what pyproject.toml asks for in that group.

# Looked at before anything is made of it; by itself that is no reason to make it anew.
.venv/.python: | environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Rubrika needs Python 3.11 or newer, and $(PYTHON) is not: install one, or name one with make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments: install the package python3-venv (apt install python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.default: .venv/.python pyproject.toml constraints.txt
	@echo "Installing into .venv; this takes a minute or two, once." >&2
	@$(PIP) --editable .
	@touch $@

# By itself: what looks for weaknesses is not to be looked at.
.venv/.audit: .venv/.python
	@$(PYTHON) -m venv .venv/audit
	@.venv/audit/bin/pip --disable-pip-version-check install --quiet 'pip-audit>=2.9,<3'
	@touch $@

# torch goes first and under exactly this name: the default install never brings it.
.venv/.torch: .venv/.python pyproject.toml constraints.txt
	@echo "Installing torch; this takes a few minutes, once." >&2
	@$(PIP) torch==2.13.0
	@touch $@

.venv/.train: .venv/.torch
	@$(PIP) --editable '.[train]'
	@touch $@ .venv/.default

.venv/.dev: .venv/.torch
	@$(PIP) --editable '.[train,dev]'
	@touch $@ .venv/.train .venv/.default
