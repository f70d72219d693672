PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PORT ?= 3000
WORKERS ?= 2
export DAGSTER_DISABLE_TELEMETRY := yes

.DEFAULT_GOAL := help
.PHONY: help venv demo test check slow audit bench ui format docs clean
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	  || { echo "$(PYTHON) is $$($(PYTHON) --version): Python 3.11 or 3.12 is needed; name one: make PYTHON=python3.11 ..." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

venv: $(READY) ## set up .venv with the pinned versions

demo: $(READY) ## run the study on the embedded model; ends with the table of the four arms and the report's path
	$(BIN)/rlaif up

test: $(READY) ## all tests but the slow ones
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not slow'

check: $(READY) ## what CI runs: format, lint, types, imports, definitions, secrets, dependencies, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dagster definitions validate -w workspace.yaml
	$(BIN)/python -m tests.security.secret_scan
	$(BIN)/python -m tests.security.dependency_audit
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not slow'

slow: $(READY) ## the tests that `make check` leaves out: daemon, browser, kills, Ray, the embedded tutorial, memory; hours, alone
	$(BIN)/python -m pytest -m slow

audit: $(READY) ## dependencies against known vulnerabilities; fails where the index gives no advisories
	$(BIN)/python -m tests.security.dependency_audit --strict

bench: $(READY) ## ours and a peer side by side; PART=judge, ppo, evaluation, lineage, scale or sampling
	$(BIN)/python -m bench $(PART)

ui: $(READY) ## Dagster's UI on this project; PORT=3000
	$(BIN)/rlaif ui --port $(PORT)

format: $(READY) ## format, and fix what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## write docs/reference.md from the schemas
	$(BIN)/python -m rlaif_dagster.reference

clean: ## remove the virtual environment and caches; results in .rlaif/ stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
