# `make demo` and `make test` set up everything they need; nothing else is needed before either.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Python keeps what it has compiled, also where that is turned off: every process that tests start would
# compile Beam and torch anew, which is most of its seconds.
export PYTHONDONTWRITEBYTECODE :=
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)

.PHONY: help demo test check lint types layers format docs bench ci clean

help:  ## Lists the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml constraints.txt deploy/setup.sh
	PYTHON=$(PYTHON) deploy/setup.sh $(VENV)
	touch $@

demo: $(READY)  ## Curates an embedded pool with planted defects and shows what was caught.
	$(BIN)/curate demo demo-out

test: check  ## Lint, types, layers and tests: what CI runs.

# One thread of torch's for each process of tests: two that take all cores each wait for one another.
check: lint types layers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports --no-cache

format: $(READY)  ## Formats the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## Writes docs/reference from the declarations in the code.
	$(BIN)/python docs/generate.py

bench: $(READY)  ## Runs the benchmarks and writes benchmarks/RESULTS.md (about half an hour).
	$(BIN)/python -m benchmarks

clean:  ## Removes the environment, caches and the demo's output.
	rm -rf $(VENV) .cache demo-out build *.egg-info
