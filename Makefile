# `make demo` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.made

# Tests and demo start several processes; each would otherwise take every core.
export OMP_NUM_THREADS ?= 1

.PHONY: setup test test-fast lint demo bench
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "atmonr needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1)." \
		       "Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[mpi,dev,fetch]'
	touch $@

test: lint
	$(BIN)/pytest

test-fast: setup
	$(BIN)/pytest -m 'not slow'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: setup
	$(BIN)/atmonr demo --out demo

bench: setup
	$(BIN)/atmonr bench
