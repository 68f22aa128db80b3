# mmf-node: `make demo` shows the main job, `make test` proves it. `make help` lists the rest.
SHELL   := /bin/bash
PYTHON  ?= python3.11
VENV    ?= .venv
BIN     := $(VENV)/bin
# On Linux the public registry's torch brings several GB of CUDA libraries: right for a GPU host.
# Elsewhere: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
PACS    ?=
# Two processes, each file in one of them: the tests were made for two cores.
PARALLEL ?= -n 2 --dist loadfile
PIP     := $(BIN)/pip --disable-pip-version-check
TORCH   := "torch>=2.10,<2.14"

.DEFAULT_GOAL := help
.PHONY: help demo loop test quick unit slow serve lint bench demo-models image-check load clean host

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed ## a synthetic scanner, the node and an archive: one study from C-STORE to the report (PACS=HOST:PORT:AET for a real archive)
	$(BIN)/mmf-node demo $(if $(PACS),--pacs $(PACS))

loop: $(VENV)/.installed-dev ## the whole learning loop on phantoms: export, outcomes, nightly training, gate, promotion, rollback
	$(BIN)/python -m tests.end_to_end.learning_loop loop-data

test: $(VENV)/.installed-dev lint ## every test but the slow proofs
	$(BIN)/pytest -q $(PARALLEL) --durations=15

quick: $(VENV)/.installed-dev ## lint, types, contracts and unit tests, in under a minute
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint unit

unit: $(VENV)/.installed-dev ## the unit tests
	$(BIN)/pytest -q $(PARALLEL) tests/unit

slow: $(VENV)/.installed-dev ## the slow proofs
	$(BIN)/pytest -q -m slow --timeout 5400

lint: $(VENV)/.installed-dev ## ruff, mypy strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

serve: $(VENV)/.installed ## run the node on 127.0.0.1:11112
	$(BIN)/mmf-node serve

bench: $(VENV)/.installed-dev ## speed and memory side by side with named peers (BENCH="walk reception" for some)
	$(BIN)/python -m tests.benchmarks $(BENCH)

demo-models: $(VENV)/.installed-dev ## train the demonstration models on phantoms again
	$(BIN)/mmf-train demo-models --out conf/models/demo

image-check: ## lint the Dockerfile, build the image and try it (ENGINE=podman, BUILD_ARGS=..., RUN_ARGS=...)
	tests/image_check.sh

load: $(VENV)/.installed-dev ## 20 studies on 4 associations while two are assessed by real workers; prints the peak memory
	$(BIN)/pytest -q -s -m slow --timeout 5400 tests/slow/test_load.py

clean: ## remove the environment and everything a demo or a build left
	rm -rf $(VENV) build dist *.egg-info demo-data loop-data bench-data .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# pyradiomics has no wheel for Python 3.11 and its setup imports numpy: numpy and torch first, then pyradiomics
# without build isolation, then the project. See README, "Installation".
$(VENV)/.core: constraints.txt | host
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing torch $(if $(TORCH_INDEX),from $(TORCH_INDEX),(a CUDA build may download several GB; TORCH_INDEX=... chooses another))"
	$(PIP) install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) install -q -c constraints.txt numpy setuptools wheel
	$(PIP) install -q -c constraints.txt --no-build-isolation pyradiomics==3.0.1
	@touch $@

$(VENV)/.installed: $(VENV)/.core pyproject.toml
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -q -c constraints.txt -e '.[train,dev]'
	@touch $@

host:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: apt-get install python3.11 python3.11-venv python3.11-dev build-essential (or make PYTHON=/path/to/python3.11)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) is not Python 3.11, which pyradiomics 3.0.1 needs: make PYTHON=/path/to/python3.11"; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "A C compiler is needed to build pyradiomics: apt-get install build-essential"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, pathlib, sysconfig, sys; sys.exit(not (pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h").exists())' || { echo "The Python headers and venv are needed: apt-get install python3.11-venv python3.11-dev"; exit 1; }
