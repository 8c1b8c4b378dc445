# The commands of this project. Each makes the environment that it needs; pip is the only installer.
PYTHON ?= python3
SERVE_ENV := .venv-serve
ENV := .venv
CLUSTERS_ENV := .venv-clusters
DOCS_ENV := .venv-docs
RELEASE_ENV := .venv-release
ENGINE ?= cpu
IMAGE ?= batchproof:$(ENGINE)
TRAINED := trained
SPREAD := -n auto --dist loadfile --no-loadscope-reorder
PYTEST = OMP_NUM_THREADS=1 $(ENV)/bin/python -m pytest $(SPREAD)
# The rooms that hold the promise: every line of them is run by a test in the folders that mirror them.
PROMISE := service/bundle/*,service/features/*,service/inference/*,service/invariance/*,training/prove/*,training/network/fold*.py,training/network/batchnorm.py
PROMISE_TESTS := tests/service/bundle tests/service/features tests/service/inference tests/service/invariance tests/training/prove tests/training/network
# The proof of monotone constraints says nothing of batches; tests/training/export/test_monotone.py holds it.
PROMISE_OMIT := training/prove/monotone/*
COVERAGE = rm -f .coverage .coverage.* \
	&& OMP_NUM_THREADS=1 $(ENV)/bin/python -m coverage run -m pytest $(SPREAD) -q $(PROMISE_TESTS) \
	&& $(ENV)/bin/python -m coverage combine --quiet \
	&& $(ENV)/bin/python -m coverage report --show-missing --skip-covered --include="$(PROMISE)" --omit="$(PROMISE_OMIT)" --fail-under=100

.DEFAULT_GOAL := help
.PHONY: help serve train test test-clusters matrix quick check coverage programs docs image wheel release npm bench bench-quality bench-train decisions lock clean

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1 - /p' $(MAKEFILE_LIST)

serve: $(SERVE_ENV)/ready ## Serve the bundles in models/ (MODELS=, PORT=)
	@exec $(SERVE_ENV)/bin/python -m batchproof.service serve $(if $(MODELS),--models $(MODELS)) $(if $(PORT),--port $(PORT))

train: $(ENV)/ready ## Train on examples/penguins.csv into trained/ (MODELS=)
	$(ENV)/bin/batchproof-train examples/penguins.csv --target species --widths 64,64 --arithmetic exact --models $(or $(MODELS),$(TRAINED))

# Tests run side by side, one thread each: two test processes with two compute threads each would fight for two cores.
# The tests that coverage measures are not run twice.
test: check programs ## Run lint, types, import boundaries and every test, and demand the coverage of `make coverage`
	@failed=; { $(COVERAGE); } || failed="make coverage, at the top"; \
	$(PYTEST) $(addprefix --ignore=,$(PROMISE_TESTS)) || failed="$${failed:+$$failed, and }the tests above"; \
	test -z "$$failed" || { echo "Failed: $$failed." >&2; exit 1; }

test-clusters: $(CLUSTERS_ENV)/ready ## Run the tests on real Spark, Ray and Dask, of scoring, serving and training (needs Java)
	PYTHONPATH=. $(CLUSTERS_ENV)/bin/python -m pytest -o filterwarnings=default tests/clusters

matrix: ## Run the tests on the newest released and on the lowest allowed versions (VERSIONS=newest, PYTHON=python3.13, WITHOUT_TRAINING=1)
	@for versions in $(or $(VERSIONS),newest lowest); do WITHOUT_TRAINING=$(WITHOUT_TRAINING) $(PYTHON) constraints/matrix.py $$versions $(TESTS) || exit 1; done

quick: $(ENV)/ready ## Run the tests that need no server, no training and no browser: under a minute
	$(PYTEST) -m "not slow"

check: $(ENV)/ready ## Run lint, types and import boundaries only
	$(ENV)/bin/ruff check .
	$(ENV)/bin/ruff format --check .
	$(ENV)/bin/mypy
	$(ENV)/bin/lint-imports --no-logo

coverage: $(ENV)/ready ## Measure that tests run every line of the rooms that hold the promise
	@$(COVERAGE)

programs: ## Install Chromium, Node, a JDK, HAProxy, nginx and promtool for the tests that drive them, where apt and root are there
	@bash tests/programs.sh

docs: $(DOCS_ENV)/ready ## Build the documentation as a site into build/site
	$(DOCS_ENV)/bin/python docs/site/build.py

image: ## Build the container image (ENGINE=cpu or gpu), and its bill of materials beside it
	docker build --build-arg ENGINE=$(ENGINE) $(if $(BASE),--build-arg BASE=$(BASE)) \
		--build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) --tag $(IMAGE) .
	@mkdir -p build
	$(PYTHON) constraints/image_bill.py constraints/image-$(ENGINE).lock >build/batchproof-$(ENGINE).cdx.json

wheel: $(ENV)/ready ## Build the wheel of the last commit into build/wheel: the same commit gives the same bytes
	@bash constraints/wheel.sh $(ENV)/bin/python build/wheel

npm: ## Write the JavaScript package as an npm tarball into build/npm: the same files give the same bytes
	@$(PYTHON) constraints/npm_tarball.py build/npm

release: $(RELEASE_ENV)/ready ## Build wheel and source distribution of the last commit into build/release, and use both (REPOSITORY=, WITHOUT_TRAINING=1)
	GOAL=release TORCH_INDEX="$(TORCH_INDEX)" CUDA="$(CUDA)" $(RELEASE_ENV)/bin/python constraints/release.py build/release $(if $(REPOSITORY),--repository $(REPOSITORY)) $(if $(WITHOUT_TRAINING),--without-training)

bench: $(ENV)/ready ## Measure the service on this machine
	$(ENV)/bin/python -m bench

bench-quality: $(ENV)/ready ## Compare accuracy with peers on DATA=, a folder of tables with a meta.json
	$(ENV)/bin/python -m bench.quality $(DATA) $(ARGS)

bench-train: $(ENV)/ready ## Time an epoch beside its bare forward, backward and optimiser steps
	$(ENV)/bin/python -m bench.train_speed $(ARGS)

# An environment is ready when its stamp is newer than what it was made from; a failed installation leaves no stamp.
MAKE_ENV = @$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Batchproof needs Python 3.11 or later: make PYTHON=python3.11 …")' \
	&& GOAL="$(firstword $(MAKECMDGOALS))" TORCH_INDEX="$(TORCH_INDEX)" CUDA="$(CUDA)" $(PYTHON) constraints/install.py

$(SERVE_ENV)/ready: pyproject.toml constraints/serving.txt
	$(MAKE_ENV) $(SERVE_ENV) constraints/serving.txt cpu signing jwt

$(ENV)/ready: pyproject.toml constraints/all.txt
	$(MAKE_ENV) $(ENV) constraints/all.txt cpu dev tables training

$(DOCS_ENV)/ready: pyproject.toml constraints/docs.txt
	$(MAKE_ENV) $(DOCS_ENV) constraints/docs.txt docs

$(RELEASE_ENV)/ready: pyproject.toml constraints/release.txt
	$(MAKE_ENV) $(RELEASE_ENV) constraints/release.txt release

$(CLUSTERS_ENV)/ready: pyproject.toml constraints/clusters.txt
	$(MAKE_ENV) $(CLUSTERS_ENV) constraints/clusters.txt cpu clusters training

decisions: ## Write docs/decisions/README.md, the list of decisions, from the files beside it
	@$(PYTHON) -m tests.docs.decision_index

lock: $(ENV)/ready $(SERVE_ENV)/ready $(DOCS_ENV)/ready $(RELEASE_ENV)/ready ## Write constraints/ from what the environments hold
	bash constraints/lock.sh $(ENV) $(SERVE_ENV) $(DOCS_ENV) $(RELEASE_ENV)

clean: ## Remove the environments and caches
	rm -rf .venv-matrix $(ENV) $(SERVE_ENV) $(DOCS_ENV) $(CLUSTERS_ENV) $(RELEASE_ENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
