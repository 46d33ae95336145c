# Every target does its own set-up: `make demo` and `make test` work in a fresh clone with nothing but Python 3.11+ and make.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint format types contracts adk pytest bench api changelog clean
SHELL := /bin/bash

VENV := .venv
PY := $(VENV)/bin/python
RUN := $(VENV)/.ready-run
DEV := $(VENV)/.ready-dev
# What the demo needs is a fraction of what development needs (the benchmarks compare with the vendors' own clients).
RUN_EXTRAS := [cli,sim]
DEV_EXTRAS := [dev]
# google-adk cannot stand beside the newest vendor clients: an environment of its own, with what tests/adk needs.
ADK := .venv-adk
ADK_READY := $(ADK)/.ready
ADK_EXTRAS := [adk-test]
CODE := src tests $(wildcard benchmarks examples)
# A Python that is new enough and able to make environments; set PYTHON to choose another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

# pip prints nothing unless it fails.
define install
	@echo "installing lamella$(1) into $(2) …"
	@$(2)/bin/python -m pip install --disable-pip-version-check --quiet --editable '.$(1)' >$(2)/pip.log 2>&1 \
		|| { cat $(2)/pip.log; echo 'pip failed; its output is above'; exit 1; }
endef

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(DEV) ## make .venv with everything that development needs

demo: $(RUN) ## run examples/demo.py (needs no key)
	@$(PY) examples/demo.py

test: lint types contracts adk pytest ## lint, types, import contracts, tests in both environments: all that CI runs

lint: $(DEV) ## ruff: rules and format
	@$(PY) -m ruff check --quiet $(CODE)
	@$(PY) -m ruff format --quiet --check $(CODE) || { $(PY) -m ruff format --diff $(CODE) 2>&1 | head -60; echo 'run: make format'; exit 1; }

format: $(DEV) ## write the format and the safe fixes
	@$(PY) -m ruff check --fix --quiet $(CODE) || true
	@$(PY) -m ruff format $(CODE)

types: $(DEV) ## mypy, strict
	@$(PY) -m mypy

contracts: $(DEV) ## import-linter: imports only go down
	@$(VENV)/bin/lint-imports --no-cache >$(VENV)/contracts.log 2>&1 || { cat $(VENV)/contracts.log; exit 1; }
	@tail -n 1 $(VENV)/contracts.log

adk: $(ADK_READY) ## make .venv-adk, then types and tests of what needs google-adk
	@$(ADK)/bin/python -m mypy --cache-dir .mypy_cache/adk --follow-imports silent -p lamella.integrations.adk
	@$(ADK)/bin/python -m pytest tests/adk tests/plugins/test_litellm.py

pytest: $(DEV) ## the tests alone, without those of `make adk`
	@$(PY) -m pytest

bench: $(DEV) ## measure the promises
	@$(PY) -m benchmarks

api: $(DEV) ## write tests/public_api.txt anew
	@$(PY) -P tests/test_public_api.py --write

changelog: $(DEV) ## show what the change fragments say
	@$(VENV)/bin/towncrier build --draft

clean: ## remove what the other targets made
	rm -rf $(VENV) $(ADK) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY) $(ADK)/bin/python: %/bin/python:
	@test -n '$(PYTHON)' || { echo 'Lamella needs Python 3.11 or newer with venv; none was found (set PYTHON=…)'; exit 1; }
	@$(PYTHON) -m venv $*

$(RUN): pyproject.toml | $(PY)
	$(call install,$(RUN_EXTRAS),$(VENV))
	@touch $@

$(DEV): pyproject.toml | $(PY)
	$(call install,$(DEV_EXTRAS),$(VENV))
	@touch $(RUN) $@

$(ADK_READY): pyproject.toml | $(ADK)/bin/python
	$(call install,$(ADK_EXTRAS),$(ADK))
	@touch $@
