# fastconv's commands; `make help` lists them. They need Python 3.11 or newer, a C++ compiler and make, and keep
# to a virtual environment of their own.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = pyproject.toml setup.py $(wildcard kernels/cython/*.pyx kernels/cython/*.pxi kernels/microkernels/*)
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The installs of these commands fail where the kernels do not compile; a user's falls back to pure Python.
CHECKED = FASTCONV_REQUIRE_COMPILED=1
# How long the proofs run; CI asks for less.
CASES ?= 20000
CALLS ?= 10000
PROFILE ?= ci
ISAS ?= avx512,avx2,baseline

.PHONY: help digits test lint format types wheel bench install-test adapters sanitize fuzz coverage leaks clean
.DEFAULT_GOAL := help

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

digits: $(VENV)/installed ## train on handwritten digits with every kernel; writes digits.png
	$(BIN)/fastconv digits

test: $(VENV)/installed ## run the tests
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: $(VENV)/tools ## check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/tools ## repair style and formatting
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(VENV)/installed $(VENV)/tools ## check types
	BIN=$(abspath $(BIN)) .ci/types

wheel: $(VENV)/tools ## build the source distribution, and the wheel from it, into dist/
	rm -rf dist
	$(CHECKED) $(BIN)/python -m build --quiet
	ls -l dist

bench: $(VENV)/installed ## compare the kernels on the benchmark problems
	$(BIN)/fastconv bench

install-test: $(VENV)/tools ## install in clean environments: sdist and wheel, editable, no OpenMP, no compiler
	PYTHON=$(PYTHON) BIN=$(abspath $(BIN)) .ci/install-test

adapters: $(VENV)/installed ## test the adapters against the real hosts, with the hosts' own tests, in a clean environment
	PYTHON=$(PYTHON) .ci/adapters

coverage: $(VENV)/installed ## require 95% of the Python lines, Numba's kernels as Python; SHORT=1 for the latter alone
	BIN=$(abspath $(BIN)) SHORT=$(SHORT) .ci/coverage

sanitize: $(VENV)/installed $(VENV)/tools ## run the kernel tests under AddressSanitizer, UndefinedBehaviorSanitizer and Cython's bounds checks
	BIN=$(abspath $(BIN)) PROFILE=$(PROFILE) ISAS=$(ISAS) .ci/sanitize

fuzz: $(VENV)/installed ## call the public functions with random and hostile problems
	$(BIN)/python tests/fuzz.py --cases $(CASES)

leaks: $(VENV)/installed ## check that 10,000 calls of every kernel leave no memory behind
	$(BIN)/python tests/leaks.py --calls $(CALLS)

clean: ## remove what the other commands made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks htmlcov
	rm -f .coverage* kernels/cython/*.cpp kernels/cython/*.so

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fastconv needs Python 3.11 or newer; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	@touch $@

$(VENV)/installed: $(VENV)/python $(SOURCES)
	$(CHECKED) $(PIP) --editable '.[all,test]'
	@touch $@

$(VENV)/tools: $(VENV)/python .ci/tools.txt
	$(PIP) --requirement .ci/tools.txt
	@touch $@
