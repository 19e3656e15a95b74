# `make help` lists the targets. Nothing but Python (3.11 or newer) and make need be installed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo benchmark-gpu evidence-gpu test test-all check format docs clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(INSTALLED) ## make the environment in .venv (about 6 GB: it holds torch)

demo: $(INSTALLED) ## train teacher, DeiT-LT student and a plain ViT on embedded digits, print the table
	$(BIN)/deitlt train experiment=demo

benchmark-gpu: $(INSTALLED) ## measure the paper's CIFAR recipe on this machine's GPU, beside timm, into benchmark-gpu.json
	$(BIN)/deitlt benchmark experiment=cifar10_lt_if100 generated=50000 trainer=gpu compare=timm output=benchmark-gpu.json

evidence-gpu: $(INSTALLED) ## ten minutes of CIFAR-10-LT on this machine's GPU, and its speed, into evidence-gpu/; DATA="data.root=FOLDER"
	$(BIN)/python -m deitlt.benchmarks.evidence evidence-gpu $(DATA)

test: check ## check, then the tests (under 8 minutes on 2 cores)
	$(BIN)/pytest -m 'not slow' -n 2

test-all: check ## check, then every test, the slow ones too
	$(BIN)/pytest

check: $(INSTALLED) ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## let ruff mend and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## write the pages that are made from the code: docs/config.md
	$(BIN)/deitlt list keys > docs/config.md

clean: ## remove the environment and what builds and tests left behind (runs stay)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
