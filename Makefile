# One command each; every one sets up what it needs in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check benchmarks clean

demo: $(READY)
	$(BIN)/hasten demo --force

test: $(READY)
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m 'not quiet'
	$(BIN)/pytest -m quiet

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

benchmarks: $(READY)
	$(BIN)/python benchmarks/run_all.py

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
