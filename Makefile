# `make demo` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.made

# Tests and demo start several processes; each would otherwise take every core.
export OMP_NUM_THREADS ?= 1

.PHONY: setup system test test-slurm test-image test-fast lint locks image-cpu demo bench
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "atmonr needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1)." \
		       "Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[mpi,dev,fetch]'
	touch $@

# As root on Debian, the programs that tests run; elsewhere, tests that need an absent one are skipped and say so.
system:
	@missing=; for package in $$(cat tests/debian-packages.txt); do \
		dpkg-query --show --showformat='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || \
			missing="$$missing $$package"; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && grep -qs '^ID=debian' /etc/os-release; then \
		echo "apt-get install$$missing"; apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 \
			install --no-install-recommends $$missing >/dev/null; \
	else echo "not installed, so tests that need them are skipped:$$missing"; fi

# `pytest` alone runs two more slabs of known optical depth and one more scene of clear air and cloud.
test: system lint
	$(BIN)/pytest -n 2 --dist worksteal -m 'not long'

# A real Slurm on this machine, which needs root and, once, some 100 MB of packages.
test-slurm: setup
	@$(MAKE) --no-print-directory system
	$(BIN)/pytest -m slurm

# Of the container image, for which Apptainer is installed and the image built; also part of `make test`.
test-image: image-cpu
	@$(MAKE) --no-print-directory system
	$(BIN)/pytest -m image -rs

test-fast: setup
	$(BIN)/pytest -n 2 --dist worksteal -m 'not slow'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python containers/lock.py --check

# What goes into container images, after a change of pyproject.toml or constraints.txt.
locks: setup
	$(BIN)/python containers/lock.py

# atmonr-cpu.sif, or the word that it is there already. Elsewhere than on Debian, Apptainer must be there.
image-cpu: setup
	@containers/apptainer-debian.sh
	@containers/build.sh

demo: setup
	$(BIN)/atmonr demo --out demo

bench: setup
	$(BIN)/atmonr bench
