# The commands of this project. Each makes the environment that it needs; pip is the only installer.
PYTHON ?= python3
SERVE_ENV := .venv-serve
ENV := .venv
ENGINE ?= cpu
IMAGE ?= batchproof:$(ENGINE)

.DEFAULT_GOAL := help
.PHONY: help serve test check train image bench bench-quality bench-train decisions lock clean

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1 - /p' $(MAKEFILE_LIST)

serve: $(SERVE_ENV)/ready ## Serve the bundles in models/ (MODELS=, PORT=)
	@exec $(SERVE_ENV)/bin/python -m batchproof.service serve $(if $(MODELS),--models $(MODELS)) $(if $(PORT),--port $(PORT))

# Tests run side by side, one thread each: two test processes with two compute threads each would fight for two cores.
test: check ## Run lint, types, import boundaries and every test
	OMP_NUM_THREADS=1 $(ENV)/bin/python -m pytest -n auto --dist loadfile

check: $(ENV)/ready ## Run lint, types and import boundaries only
	$(ENV)/bin/ruff check .
	$(ENV)/bin/ruff format --check .
	$(ENV)/bin/mypy
	$(ENV)/bin/lint-imports --no-logo

train: $(ENV)/ready ## Train models/penguins/ anew from examples/penguins.csv
	$(ENV)/bin/batchproof-train examples/penguins.csv --target species --widths 64,64 --arithmetic exact --models $(or $(MODELS),models)

image: ## Build the container image (ENGINE=cpu or gpu)
	docker build --build-arg ENGINE=$(ENGINE) $(if $(BASE),--build-arg BASE=$(BASE)) --tag $(IMAGE) .

bench: $(ENV)/ready ## Measure the service on this machine
	$(ENV)/bin/python -m bench

bench-quality: $(ENV)/ready ## Compare accuracy with peers on DATA=, a folder of tables with a meta.json
	$(ENV)/bin/python -m bench.quality $(DATA) $(ARGS)

bench-train: $(ENV)/ready ## Time an epoch beside its bare forward, backward and optimiser steps
	$(ENV)/bin/python -m bench.train_speed $(ARGS)

# An environment is ready when its stamp is newer than what it was made from; a failed installation leaves no stamp.
$(SERVE_ENV)/ready: pyproject.toml constraints/serving.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Batchproof needs Python 3.11 or later: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(SERVE_ENV)
	$(SERVE_ENV)/bin/pip install --quiet --constraint constraints/serving.txt --editable ".[cpu]"
	@touch $@

$(ENV)/ready: pyproject.toml constraints/all.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Batchproof needs Python 3.11 or later: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(ENV)
	$(ENV)/bin/pip install --quiet --constraint constraints/all.txt --editable ".[cpu,dev,tables,training]"
	@touch $@

decisions: ## Write docs/decisions/README.md, the list of decisions, from the files beside it
	@$(PYTHON) -m tests.docs.decision_index

lock: $(ENV)/ready $(SERVE_ENV)/ready ## Write constraints/ from what the two environments hold
	bash constraints/lock.sh $(ENV) $(SERVE_ENV)

clean: ## Remove the environments and caches
	rm -rf $(ENV) $(SERVE_ENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
