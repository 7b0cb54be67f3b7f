# Everything a person does twice. Needs Python 3.11 or newer and make; the rest is installed into .venv from the locks.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)

.PHONY: help demo up test lint bench bench-ledger bench-market bench-pipeline bench-rewards bench-rules format lock clean
help:  ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

demo: $(VENV)/.runtime  ## play a day of a city on a temporary stack
	@$(BIN)/tanhui demo

up: $(VENV)/.runtime  ## serve with demo data until Ctrl-C
	@$(BIN)/tanhui up --demo

test: $(VENV)/.dev  ## run all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.dev  ## style, types, layers, schema snapshot
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/tanhui schema check
	$(BIN)/tanhui rules lint conservative > /dev/null
	$(BIN)/tanhui rules lint shanghai-2026 > /dev/null

bench: bench-pipeline bench-ledger bench-rules bench-rewards bench-market  ## run every benchmark

bench-pipeline: $(VENV)/.dev  ## records over HTTP to points on the phone
	@$(BIN)/python -m loadtests.pipeline

bench-ledger: $(VENV)/.dev  ## the book: bulk, transfers beside Medici, one hot account, sealing, audit (GROW=N: growth instead)
	@$(BIN)/python -m loadtests.ledger $(if $(GROW),--grow $(GROW))

bench-rules: $(VENV)/.dev  ## the rules: a back-test over a million acts (ACTIONS=N: fewer)
	@$(BIN)/python -m loadtests.rules $(if $(ACTIONS),--actions $(ACTIONS))

bench-rewards: $(VENV)/.dev  ## redemption: a flash sale, a steady rate, captures, a month's settlement
	@$(BIN)/python -m loadtests.rewards

bench-market: $(VENV)/.dev  ## the exchange: the matcher beside a simple one, orders end to end, time to the fill
	@$(BIN)/python -m loadtests.market

format: $(VENV)/.dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.dev  ## resolve the locks again
	$(PIP) install uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra local --extra build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra local --extra build --extra dev pyproject.toml -o requirements-dev.lock

clean:  ## remove the environment and embedded data
	rm -rf $(VENV) .tanhui

# mongod is linked against libcurl; a bare machine may lack it, and Debian may lack venv.
$(VENV)/.base:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (set PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(ROOT) apt-get update -qq && $(ROOT) apt-get install -y -qq python3-venv; }
	@if command -v ldconfig >/dev/null && ! ldconfig -p | grep -q libcurl.so.4; then \
		$(ROOT) apt-get update -qq && $(ROOT) apt-get install -y -qq libcurl4; fi
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.base requirements.lock
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
