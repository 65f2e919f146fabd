# Two commands: `make demo` and `make test`. Each sets up what it needs in .venv; nothing but Python >= 3.11 must be there.

PYTHON ?= python3
CORES ?= 2
BIN := .venv/bin
CONFIG ?=

.DEFAULT_GOAL := help
.PHONY: help setup macs3 scvi peers peer-model demo run test lint format slurm-test clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/runtime ## Install the workflow's environment into .venv

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=...")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/runtime: envs/requirements.lock | .venv/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/requirements.lock
	@touch $@

.venv/testing: envs/requirements-test.lock .venv/runtime
	$(BIN)/pip install --quiet --disable-pip-version-check -r envs/requirements-test.lock
	@touch $@

.venv/macs3: .venv/runtime
	$(BIN)/pip install --quiet --disable-pip-version-check macs3==3.0.4
	@touch $@

macs3: .venv/macs3 ## Add MACS3, for libraries without peaks (builds from source: needs a C compiler)

.venv/scvi: .venv/runtime
	$(BIN)/pip install --quiet --disable-pip-version-check -c envs/requirements.lock scvi-tools==1.4.2
	@touch $@

scvi: .venv/scvi ## Add scvi-tools: scANVI and MultiVI among the methods compared

.venv-peers/ready: envs/requirements-peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -r envs/requirements-peers.txt
	@touch $@

peers: .venv-peers/ready ## Set up other tools apart, in .venv-peers, for benchmarks and the tests that compare with them

.venv-peer-model/ready: envs/requirements-peer-model.txt
	$(PYTHON) -m venv .venv-peer-model
	.venv-peer-model/bin/pip install --quiet --disable-pip-version-check -r envs/requirements-peer-model.txt
	@touch $@

peer-model: .venv-peer-model/ready ## Set up scDynOmics's package in .venv-peer-model, for benchmarks/model.py

demo: .venv/runtime ## Run the whole line on the embedded demo; ends with results/demo/report/report.html
	$(BIN)/snakemake --cores $(CORES)

run: .venv/runtime ## Run on your data: make run CONFIG=my.yaml CORES=8
	$(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG)

test: .venv/testing ## Run all tests that need nothing but this machine
	$(BIN)/python -m pytest -m "not slurm"

slurm-test: .venv/testing ## Run the cluster tests on a real one-node Slurm (installs Debian's slurm-wlm; needs root)
	tests/cluster/slurm.sh start
	REGULONFORMER_SLURM=1 $(BIN)/python -m pytest -m slurm tests/cluster; status=$$?; tests/cluster/slurm.sh stop; exit $$status

lint: .venv/testing ## Check style of Python and Snakemake files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check --compact-diff Snakefile workflow/rules
	$(BIN)/snakemake --lint

format: .venv/testing ## Format Python and Snakemake files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

clean: ## Remove results and environment
	rm -rf results .venv .venv-peers .venv-peer-model .snakemake
