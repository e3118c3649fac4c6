# rotord: everything a person or a machine does with a clone. Needs Python >= 3.11, make and git; downloads by pip alone.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first Python here that is new enough and can make a virtual environment; `make PYTHON=/path/to/python3 setup` overrides.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3.14 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
# Processes that run tests; a test's server is its process's own.
WORKERS ?= 2
BIN := .venv/bin
UV_VERSION := 0.13.9

define venv
@python="$(PYTHON)"; if [ -z "$$python" ]; then \
	echo "rotord needs Python 3.11 or newer with its venv module (Debian 12: apt-get install python3 python3-venv)" >&2; exit 1; fi; \
	"$$python" .ci/make_venv.py $(1)
endef

.PHONY: help setup setup-test demo run test test-system bench lint sim chaos fuzz lock clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv with rotord and its embedded PostgreSQL, ready to run
	$(call venv,run)

setup-test: ## The same with everything the tests need
	$(call venv,test)

demo: setup ## Send 3,000 messages from 1,200 addresses to local receivers, with the real daemon
	$(BIN)/rotord demo

run: setup ## Run the daemon with config/rotord.toml
	$(BIN)/rotord --config config/rotord.toml run

test: setup-test lint ## Every check and test that needs no root and no Debian package
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile -m "not system and not chaos"

test-system: setup-test ## The tests that need root and Debian's packages, which it installs
	.ci/debian-packages
	$(BIN)/python .ci/make_prism.py
	$(BIN)/pytest -q -m system

lint: setup-test ## ruff, mypy --strict, the layers
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup-test ## Measure: a table beside its targets (BENCH=full takes longer; BENCH_JSON=file writes it there, too)
	$(BIN)/python -m bench --scale $(or $(BENCH),short) $(if $(BENCH_JSON),--json $(BENCH_JSON))

sim: setup-test ## The engine in virtual time, 200 seeds of trouble
	$(BIN)/python -m tests.sim --seeds 200

chaos: setup-test ## The system tests, ten times over in random order
	.ci/debian-packages
	$(BIN)/python .ci/make_prism.py
	for round in 1 2 3 4 5 6 7 8 9 10; do $(BIN)/pytest -q -m "system or chaos" -p randomly || exit 1; done

FUZZ_SECONDS ?= 600
fuzz: setup-test ## Schemathesis on the HTTP routes and atheris on each parser, FUZZ_SECONDS (600) each
	@[ -x .venv/fuzz/bin/schemathesis ] || { $(BIN)/python -m venv .venv/fuzz && \
		.venv/fuzz/bin/pip install --quiet --disable-pip-version-check schemathesis==4.32.5; }
	$(BIN)/python -m tests.fuzz.endpoint $(FUZZ_SECONDS)
	for parser in mail report complaint notice form token mailgun sendgrid smtp2go; do echo "$$parser:"; \
		$(BIN)/python -m tests.fuzz.parsers $$parser $(FUZZ_SECONDS) || exit 1; done

lock: ## Write .ci/requirements*.lock anew from pyproject.toml (make setup-test first)
	$(BIN)/python -m venv .venv/uv
	.venv/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	.venv/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
		pyproject.toml .ci/build.in --extra embedded --extra test --output-file .ci/requirements-test.lock
	.venv/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
		pyproject.toml .ci/build.in --extra embedded --constraint .ci/requirements-test.lock --output-file .ci/requirements.lock

clean: ## Remove what can be made again; never .rotord, where the embedded database is
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .schemathesis .coverage *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
