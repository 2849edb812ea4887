# Everything runs in a virtual environment of its own, which is made when it is first needed and again when setup.cfg
# changes. `make help` lists the targets.

VENV ?= .venv
PYTHON ?= $(shell \
	for python in python3 python3.13 python3.12 python3.11; do \
		$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
			&& { echo $$python; break; }; \
	done)

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDEST ?= .venv-oldest
OLDEST_PYTHON ?= python3.11
# Hundreds of processes import the package in a run of the tests: its compiled files are kept whatever the environment
# says. Many tests wait: those without Ray run three at a time, and in `make test-full` those with Ray two at a time, each
# process with a cluster that its tests share. In `make test` the shared cluster has the cores to itself.
CACHED := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1
PYTEST := $(CACHED) $(BIN)/python -m pytest
AT_ONCE := -n 3 --dist worksteal
UNIT := $(PYTEST) $(AT_ONCE)
CLUSTERS := $(PYTEST) -n 2 --dist worksteal

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo install test-unit test test-full test-oldest lint types docs site dist bench clean

help:
	@echo "make demo         train a small CNN on handwritten digits, on two Ray workers (about a minute)"
	@echo "make test-unit    the tests that start no Ray cluster (about 4 minutes on 2 cores)"
	@echo "make test         the tests that must pass before a change is merged (about 10 minutes on 2 cores)"
	@echo "make test-full    all tests, also the long ones and those that kill processes (about an hour on 2 cores)"
	@echo "make test-oldest  the tests on the oldest torch and Ray that are supported, in $(OLDEST): before a release"
	@echo "make lint         ruff: check and format --check"
	@echo "make types        mypy"
	@echo "make docs         write docs/components.md, docs/commands.md and configs/task.schema.json, which tests compare"
	@echo "make site         build the documents and the Python reference as a web site, in build/site"
	@echo "make dist         build the sdist and the wheel, in dist"
	@echo "make bench        the benchmarks"
	@echo "make clean        remove $(VENV) and $(OLDEST), build folders and caches; runs/ stays"

install: $(STAMP)

$(STAMP): setup.cfg setup.py
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found; give one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "installing into $(VENV); the first time this takes several minutes" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --progress-bar off -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/ray-classy train configs/digits.yaml
	@echo "" && echo "before these commands: . $(BIN)/activate"

test-unit: $(STAMP)
	$(UNIT) -m "not ray and not full"

test: test-unit
	$(PYTEST) -m "ray and not full"

test-full: $(STAMP)
	@status=0; $(UNIT) -m "not ray" || status=1; $(CLUSTERS) -m ray || status=1; exit $$status

test-oldest: $(OLDEST)/.installed
	$(CACHED) $(OLDEST)/bin/python -m pytest $(AT_ONCE) -m "not ray and not full"
	$(CACHED) $(OLDEST)/bin/python -m pytest -m "ray and not full"

$(OLDEST)/.installed: setup.cfg setup.py constraints-oldest.txt
	@echo "installing into $(OLDEST); this takes several minutes and 6 GB" >&2
	@test -x $(OLDEST)/bin/python || $(OLDEST_PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip install -q --progress-bar off --upgrade pip
	@$(OLDEST)/bin/python -m pip install -q --progress-bar off -c constraints-oldest.txt -e '.[dev]'
	@touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(STAMP)
	$(BIN)/python scripts/write_schema.py
	$(BIN)/python scripts/write_commands.py

site: $(STAMP)
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/site

dist: $(STAMP)
	$(BIN)/python scripts/make_dist.py

types: $(STAMP)
	$(BIN)/mypy -p ray_classy

bench: $(STAMP)
	@for file in benchmarks/*.py; do echo "$$file" && $(BIN)/python "$$file" || exit 1; done

clean:
	rm -rf $(VENV) $(OLDEST) build dist docs/api *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find ray_classy tests examples scripts -name __pycache__ -prune -exec rm -rf {} +
