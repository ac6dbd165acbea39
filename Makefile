# One command each; every one sets up what it needs in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check benchmarks fuzz lock audit clean

demo: $(READY)
	$(BIN)/hasten demo --force

# Files in their own order: by the number of their tests, as xdist has it, those of few long ones
# would come last, and one process would be left with the longest.
test: $(READY)
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m 'not quiet'
	$(BIN)/pytest -m quiet

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

benchmarks: $(READY)
	$(BIN)/python benchmarks/run_all.py

fuzz: $(READY)
	$(BIN)/python -m fuzz
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest -m 'not quiet' tests/test_scheduler_life.py tests/test_rows.py

TOOLS := $(VENV)-release
LOCK := $(TOOLS)/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--custom-compile-command 'make lock' --upgrade pyproject.toml

lock: $(TOOLS)
	$(LOCK) --extra demo --output-file requirements/demo.txt
	$(LOCK) --extra dev --output-file requirements/dev.txt

audit: $(TOOLS)
	$(TOOLS)/bin/pip-audit --disable-pip --requirement requirements/dev.txt
	$(TOOLS)/bin/pip-audit --disable-pip --requirement requirements/demo.txt \
		--format cyclonedx-json --output sbom.json

$(TOOLS):
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check uv pip-audit

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(TOOLS)
