# pacsight: `make` lists what can be made.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The Python that .venv is made of: 3.11 or later.
PYTHON ?= python3
# A package index with CPU-only wheels of torch, for machines without a GPU.
TORCH_INDEX ?=
# How many processes share the tests. A file's tests stay together: so do its services.
JOBS ?= 2
# How many results `make test-delivery` delivers, and how many studies `make chaos` sends.
RESULTS ?= 1000
STUDIES ?= 10000
# The seed of either; empty: another one each time.
SEED ?=
# How many inputs `make fuzz` tries.
CASES ?= 1000000
# More words for pytest, e.g. make test PYTEST_ARGS="-k spool -x"
PYTEST_ARGS ?=

TORCH := torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

export PYTHON

.PHONY: help sandbox test test-full test-research test-trust conformance test-delivery test-viewer chaos fuzz bench bench-model evaluate-demo \
  lint format lock sbom licences audit clean setup system-sandbox system-test system-conformance system-viewer torch
.NOTPARALLEL:

help: ## this list
	@echo 'pacsight: make TARGET [PYTHON=python3.12] [TORCH_INDEX=<index with CPU wheels>]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

sandbox: system-sandbox setup ## everything on this machine: Orthanc, node, worker, twelve studies; EXIT=1 ends after the table
	@$(BIN)/python deploy/sandbox.py $(if $(EXIT),--exit)

test: system-test setup lint ## lint, types, layers and the tests, but the slow ones
	$(BIN)/pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

test-full: system-test setup lint ## all tests, the slow ones too
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m 'slow or not slow' $(PYTEST_ARGS)

RESEARCH := tests/integration/test_packs_page.py tests/integration/test_finetune.py \
  tests/integration/test_shortcuts.py tests/unit/workers/chest/test_crossing.py \
  tests/unit/workers/test_demo_pack.py::test_training_again_gives_the_same_weights \
  tests/unit/workers/test_embedding.py tests/integration/test_exam_check.py \
  tests/integration/test_ready_packs.py tests/unit/workers/shortcuts/test_looking.py \
  tests/unit/workers/evaluating/test_probed.py tests/integration/test_exclusive.py \
  tests/unit/workers/gate/test_shipped.py tests/unit/workers/test_describing.py

test-research: system-test setup ## what takes minutes: every command of docs/packs.md, training in two processes
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m slow $(RESEARCH) $(PYTEST_ARGS)

TRUST := $(addprefix tests/integration/test_, backup.py chaos.py doctor.py forget.py hostile_files.py \
  main_job.py node_upgrade.py patient_data.py poisoned.py rebuild.py sandbox.py web_api.py)

test-trust: system-test setup ## what takes minutes: killed workers, poisoned files, patients' names, backups, chaos on SQLite
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m slow $(TRUST) $(PYTEST_ARGS)

conformance: system-conformance setup ## results x sources before every checker, a real Orthanc among them
	@$(BIN)/python -m tests.conformance --jobs $(JOBS)

test-viewer: system-viewer setup .venv/.viewer ## what a radiologist sees of the results, in OHIF in a browser
	$(BIN)/pytest tests/viewer $(PYTEST_ARGS)

test-delivery: system-test setup ## 1,000 results to Orthancs that stop, refuse and lose, over a bad network; some 8 minutes, 15 GB of disk
	@$(BIN)/python tests/delivery/storm.py --results $(RESULTS) $(if $(SEED),--seed $(SEED))

chaos: system-test setup ## 10,000 studies while everything is killed, filled, frozen; some 40 minutes, 4 GB of disk
	@$(BIN)/python tests/chaos/chaos.py --studies $(STUDIES) $(if $(SEED),--seed $(SEED))

fuzz: setup ## a million inputs that nobody would send, to all that reads from outside: CASES=, SEED=
	@$(BIN)/python tests/fuzz/fuzz.py --cases $(CASES) $(if $(SEED),--seed $(SEED))

bench: system-test setup ## speed and memory, beside peers measured in the same run
	@for bench in tests/benchmarks/[!_]*.py; do $(BIN)/python "$$bench"; done

bench-model: setup ## the model at full size: speed, share of the matrix rate, accuracy, memory
	@$(BIN)/python tests/benchmarks/model.py

evaluate-demo: setup ## the demo pack against phantoms it has never seen: AUC with its limits
	@$(BIN)/pacsight pack evaluate-demo

lint: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup ## write the code as ruff would
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: setup ## resolve deploy/requirements*.txt anew
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check install --quiet uv
	echo '$(TORCH)' >build/lock/outside
	$(RESOLVE) --fork-strategy fewest --all-extras --excludes build/lock/outside \
	  --output-file deploy/requirements.txt pyproject.toml deploy/requirements.in >/dev/null
	$(RESOLVE) --constraint deploy/requirements.txt \
	  --output-file deploy/requirements-viewer.txt deploy/requirements-viewer.in >/dev/null
	$(RESOLVE) --output-file deploy/requirements-supply.txt deploy/requirements-supply.in >/dev/null

RESOLVE := build/lock/bin/uv pip compile --quiet --no-config --upgrade --universal \
  --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock'

sbom: setup build/supply/.installed ## CycloneDX bills of materials: build/sbom-*.json
	@$(QUIETLY) $(SUPPLY)/cyclonedx-py requirements $(SBOM) -o build/sbom-locked.json deploy/requirements.txt
	@$(SUPPLY)/cyclonedx-py environment $(SBOM) -o build/sbom-installed.json $(BIN)/python
	@ls build/sbom-*.json

licences: setup build/supply/.installed ## of all that is installed; fails on one that is not allowed
	@$(SUPPLY)/pip-licenses --python $(BIN)/python | sed 's/ *$$//'

audit: build/supply/.installed ## known vulnerabilities of all that is locked, as the package index knows them
	@for lock in $(LOCKS); do echo "$$lock:"; $(AUDIT) -r $$lock || $(NOT_SOUND); done
	@echo '$(TORCH):'; $(AUDIT) --no-deps -r <(echo '$(TORCH)') || $(NOT_SOUND)

SUPPLY := build/supply/bin
# It warns that a list has no dependency graph. The bill of what is installed has one.
QUIETLY := PYTHONWARNINGS=ignore::UserWarning
SBOM := --pyproject pyproject.toml --output-reproducible
LOCKS := deploy/requirements.txt deploy/requirements-viewer.txt deploy/requirements-supply.txt
# strict: what the package index does not answer about is an error; otherwise it would pass for sound.
AUDIT := $(SUPPLY)/pip-audit --strict --disable-pip --progress-spinner off
NOT_SOUND := { echo 'audit: stopped. Something was found, or the package index did not answer: see above.' >&2; exit 1; }

clean: ## remove what was set up, built and cached
	rm -rf .venv .sandbox build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find dicom_node sr_writer workers tests deploy -name __pycache__ -prune -exec rm -rf {} +

# ── set-up: what is done is not done again ───────────────────────────────────

setup: .venv/.installed

# Exit status 3: something could not be had, and it said what. We go on without it.
system-sandbox:
	@deploy/system-packages sandbox || (($$? == 3))

system-conformance:
	@deploy/system-packages conformance || (($$? == 3))

system-viewer:
	@deploy/system-packages viewer || (($$? == 3))

system-test:
	@deploy/system-packages test || (($$? == 3))

.venv/.installed: deploy/requirements.txt pyproject.toml | .venv/bin/pip
	@echo 'set-up: the versions of deploy/requirements.txt'
	@$(PIP) install --quiet --require-hashes --requirement deploy/requirements.txt
	@$(BIN)/python -c '$(HAS_TORCH)' || $(MAKE) --no-print-directory torch
	@echo 'set-up: pacsight'
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The driver of the browser is 40 MB: only who tests the viewer gets it.
.venv/.viewer: deploy/requirements-viewer.txt .venv/.installed
	@echo 'set-up: the versions of deploy/requirements-viewer.txt'
	@$(PIP) install --quiet --require-hashes --requirement deploy/requirements-viewer.txt
	@touch $@

build/supply/.installed: deploy/requirements-supply.txt | .venv/bin/pip
	@echo 'set-up: the versions of deploy/requirements-supply.txt'
	@$(PYTHON) -m venv build/supply
	@build/supply/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --requirement $<
	@touch $@

.venv/bin/pip:
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo '$(PYTHON) is not Python 3.11 or later: name one with make PYTHON=/path/to/python3 ...' >&2; exit 1; }
	@deploy/system-packages python
	@echo 'set-up: .venv'
	@$(PYTHON) -m venv .venv

# What torch needs on every platform is in the locked file; what remains to be
# fetched with it is CUDA, where its build wants that.
torch:
	@echo 'set-up: $(TORCH), from $(if $(TORCH_INDEX),$(TORCH_INDEX),the default package index)'
ifeq ($(TORCH_INDEX),)
	@echo '  NOTE: where that index serves the CUDA build, this downloads 2 GB or more. Without a GPU,'
	@echo '  stop here (Ctrl-C) and name an index with CPU wheels: make TORCH_INDEX=<its address> ...'
endif
	@$(PIP) install $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') '$(TORCH)'
	@$(BIN)/python -c 'import torch'

HAS_TORCH := from importlib.metadata import distributions as d; import sys; \
  sys.exit("$(TORCH)" not in ["torch==" + x.version.split("+")[0] for x in d(name="torch")])
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
