# make demo: set-up and the flights example; make test: set-up and the tests. Both work on a fresh machine.
# docs/development/test-suite.md says which tests belong to which tier.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint types contracts check bench clean

help: ## List the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Create .venv, install the pinned versions, prepare Java, Delta and the connectors

$(READY): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tidemill needs Python 3.11 or newer, found $$($(PYTHON) -V 2>&1); try: make PYTHON=python3.11 …" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (the first time this takes one to three minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mlflow,demo,dev]'
	@$(BIN)/python -m tidemill.runtime.spark_home --bring-java --with all
	@touch $@

demo: $(READY) ## Run the flights example, from raw files to predictions
	@$(BIN)/tidemill demo-data data
	@$(BIN)/tidemill run conf/flight_delays/pipeline.yml

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

test: $(READY) ## Run the first tier of the tests, in two workers
	@$(PYTEST)

test-slow: $(READY) ## Run the slow tier: kills, brokers, full matrices, examples at full size; SAMPLE=SEED draws a part of it
	@$(PYTEST) -m slow $(if $(SAMPLE),--sample $(SAMPLE))

lint: $(READY) ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY) ## Check types
	@$(BIN)/mypy

contracts: $(READY) ## Check which package may import which
	@$(BIN)/lint-imports

check: lint types contracts ## Run lint, types and contracts

bench: $(READY) ## Measure the demo: wall time by step, peak memory
	@$(BIN)/python benchmarks/demo.py

clean: ## Remove .venv, build files, and what the demo wrote
	rm -rf .venv data lake build lib/*.egg-info
