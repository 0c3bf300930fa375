# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PY := .venv/bin/python
UV := .venv/bin/uv
EXTRAS := operator gateway server dev
SOURCES := operator/llmservice_operator inference_server hack tests
LIGHT_TYPES := operator/llmservice_operator inference_server hack/cluster hack/demo tests

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: env
env: .venv/installed ## the Python environment, from the hash-locked requirements

.venv/installed: requirements/uv.txt requirements/dev.txt pyproject.toml
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@echo "installing the Python packages (some 3 GB the first time, torch brings its GPU libraries)"
	$(UV) pip sync --quiet --require-hashes requirements/uv.txt requirements/dev.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation-package llmservice -e .
	touch $@

.PHONY: lock
lock: env ## compile requirements/*.txt anew from pyproject.toml
	cd requirements && for extra in $(EXTRAS); do \
	  ../$(UV) pip compile --quiet ../pyproject.toml --extra $$extra --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o $$extra.txt; \
	done

.PHONY: lint
lint: env ## ruff, formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.PHONY: types
types: env ## mypy --strict
	.venv/bin/mypy $(LIGHT_TYPES)

.PHONY: boundaries
boundaries: env ## the import contracts
	.venv/bin/lint-imports

.PHONY: unit
unit: env ## tests that need nothing
	$(PY) -m pytest tests/unit

.PHONY: contract
contract: env ## tests on loopback: fakes against the real thing
	$(PY) -m pytest tests/contract
