# Every target sets up what it needs: a virtual environment in .venv from the hashed lock, then the jars of the stack
# (into ~/.cache/tailrace, once). Nothing but Python 3.11+ and make has to be there.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help setup demo demo-flights test test-lint test-all lint format fidelity drill bench stack-up stack-down clean

help:
	@echo "make demo          the whole pipeline on live traffic, all three sinks proved equal to the source"
	@echo "make demo-flights  the same on 336,776 real flights"
	@echo "make test          lint and every test, the embedded stack included"
	@echo "make fidelity      every type and every change of structure under live traffic, then verify"
	@echo "make drill         three seeds of faults at random under a rough workload, then verify; docs/drill.md"
	@echo "make bench         throughput as ratios against bare clients; .tailrace/bench.json"
	@echo "make lint          ruff, mypy --strict, import contracts, size budget"
	@echo "make setup         only the environment; then .venv/bin/tailrace --help"

$(READY): requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tailrace needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	@echo "setting up $(VENV) from requirements/lock.txt"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

setup: $(READY)

demo: $(READY)
	@$(BIN)/tailrace demo

demo-flights: $(READY)
	@$(BIN)/python examples/flights/run.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python tools/size_budget.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Tests with servers mostly wait, so three files run at a time, each process with a stack of its own, the longest first;
# lint runs beside them, and what it says comes when it is through. Servers that live for minutes do without Java's
# second compiler, which would cost them more than they get.
test: export TAILRACE_JAVA_OPTIONS = -XX:TieredStopAtLevel=1
test: export PYTHONDONTWRITEBYTECODE =  # some hundred processes share what the first one compiled
test: $(READY)
	$(BIN)/tailrace stack fetch
	@$(MAKE) --no-print-directory -j2 test-lint test-all

test-lint: $(READY)
	@mkdir -p .tailrace; $(MAKE) --no-print-directory lint > .tailrace/lint.log 2>&1; code=$$?; echo; cat .tailrace/lint.log; exit $$code

test-all: $(READY)
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder \
		tests/faults tests/integration tests/contract tests/unit tests/property

fidelity: $(READY)
	$(BIN)/python -m tests.fidelity

# One whole round of faults, a part of it in each of three drills: workers, servers, network. The workers are static
# members of their groups in the first and dynamic ones in the others; the last has the transaction of 100,000 rows.
drill: $(READY)
	$(BIN)/tailrace drill --seed 3 --rounds 1 --rate 100 --large 10000 --fault kill-worker --fault kill-workers --fault pause-worker \
		--fault zombie --fault scale
	$(BIN)/tailrace drill --seed 1 --rounds 1 --rate 100 --large 10000 --fault kill-server --fault pause-server --fault restart-connector
	$(BIN)/tailrace drill --seed 2 --rounds 1 --rate 100 --fault refuse --fault silent --fault slow --fault cut --fault lose-answers

bench: $(READY)
	$(BIN)/python -m bench

stack-up: $(READY)
	$(BIN)/tailrace stack up

stack-down: $(READY)
	$(BIN)/tailrace stack down

clean:
	rm -rf $(VENV) .tailrace build *.egg-info .mypy_cache .ruff_cache .pytest_cache
