# Everything works with Python (3.10 or later), git and make alone. `make` lists what there is.

PYTHON ?= python3

BIN := .venv/bin
# Where an environment's packages are
SITE = $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Those that start no job two at a time, then those that do one by one: a job keeps the machine busy by itself.
# That PYTEST_ARGS selects none of one kind (pytest's 5) is no failure.
FAST := pytest -n 2 --dist loadfile -m "not e2e"
SLOW := pytest -m e2e
NONE_IS_FINE := || [ $$? -eq 5 ]
# The whole suite in one environment: $(call suite,.venv)
define suite
$(1)/bin/python -m $(FAST) $(PYTEST_ARGS) $(NONE_IS_FINE)
$(1)/bin/python -m $(SLOW) $(PYTEST_ARGS) $(NONE_IS_FINE)
endef
# Other Pythons than PYTHON: those of them that run.
PYTHONS := $(shell for python in python3.10 python3.12 python3.13; do $$python -c 1 >/dev/null 2>&1 && echo $$python; done)
INPUTS := pyproject.toml $(wildcard requirements/*.txt)

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast coverage lint generate format bench chaos compat compat-torch-2.8 compat-torch-newest \
	compat-otel compat-otel-fast compat-python canary nightly wheel release-check clean always

help: ## list the targets
	@grep -hE '^[a-z0-9. -]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | \
	  awk -F'|' '{ printf "  make %-20s %s\n", $$1, $$2 }'

# Who has the developers' environment needs no other one.
DEMO := $(if $(wildcard .venv/.installed),.venv,.venv-demo)

demo: $(DEMO)/.installed ## run a job that crashes and recovers, and show its telemetry
	@$(DEMO)/bin/python examples/demo.py

test: .venv/.installed ## all tests; those whose tools are absent are skipped and say so
	$(call suite,.venv)

test-fast: .venv/.installed ## the tests that start no job
	$(BIN)/python -m $(FAST) $(PYTEST_ARGS)

# Every process of the tests is measured but launchers of torchrun, whose end that would change: so each test sees
# them as users do. Then some jobs run with launchers measured, and nobody looks at how those end.
coverage: .venv/.installed ## all tests, and which lines they go through
	$(BIN)/coverage erase
	echo $(CURDIR)/tests/support/coverage > "$(SITE)/a0_raw_threads.pth"
	$(BIN)/coverage run -m $(FAST) $(PYTEST_ARGS) $(NONE_IS_FINE)
	$(BIN)/coverage run -m $(SLOW) $(PYTEST_ARGS) $(NONE_IS_FINE)
	$(BIN)/coverage run -m tests.support.scenarios.measured
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: .venv/.installed ## style and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

generate: .venv/.installed ## renew the tables of the documents, the dashboards, and the operator's rules
	$(BIN)/python docs/reference.py
	$(BIN)/python collector-config/grafana/dashboards.py
	$(BIN)/python collector-config/prometheus/prometheus_rule.py

format: .venv/.installed ## format the code, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed ## measure what the telemetry costs a job
	$(BIN)/python -m benchmarks

chaos: .venv/.installed ## run jobs against faults of all kinds, and renew docs/chaos.md
	$(BIN)/python -m tests.support.chaos --write

compat: compat-torch-2.8 compat-torch-newest compat-otel ## all tests with the oldest and newest versions (12 GB)

compat-torch-2.8: .venv-torch-2.8/.installed ## all tests with the oldest torch (7 GB)
	$(call suite,.venv-torch-2.8)

compat-torch-newest: .venv-torch-newest/.installed ## all tests with the newest torch (7 GB)
	$(call suite,.venv-torch-newest)

compat-otel: .venv-otel-oldest/.installed ## all tests with the oldest OpenTelemetry
	$(call suite,.venv-otel-oldest)

compat-python: $(PYTHONS:%=.venv-%/.installed) ## the tests that start no job, with each other Python that is found
	set -e; for python in $(PYTHONS); do echo "== $$python"; .venv-$$python/bin/python -m $(FAST) $(PYTEST_ARGS); done

compat-otel-fast: .venv-otel-oldest/.installed ## those of them that start no job
	.venv-otel-oldest/bin/python -m $(FAST) $(PYTEST_ARGS)

canary: .venv-canary/.installed ## all tests with the newest torch and OpenTelemetry that pip finds today (7 GB)
	.venv-canary/bin/python -m pip list --format=freeze | grep -E '^(torch|opentelemetry[a-z-]*)=='
	-.venv-canary/bin/python docs/private_names.py
	$(call suite,.venv-canary)

nightly: compat compat-python coverage chaos ## what takes too long for each change: other versions, coverage, chaos

wheel: ## build the wheel into dist/
	rm -rf dist
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .

release-check: .venv-release/.installed ## build what a release uploads into dist/, and check it
	rm -rf dist
	.venv-release/bin/python -m build --no-isolation --sdist --wheel --outdir dist .
	.venv-release/bin/python -m twine check --strict dist/*
	.venv-release/bin/python tests/dist_check.py dist
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	.venv-wheel/bin/python tests/wheel_check.py

clean: ## remove everything that was made
	rm -rf .venv .venv-* .tools build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments: each is made anew when a file that says what is in it has changed.

.venv/.installed: PACKAGES = -r requirements/dev.txt
.venv-demo/.installed: PACKAGES = -r requirements/demo.txt
.venv-torch-2.8/.installed: PACKAGES = -r requirements/tools.txt -r requirements/otel.txt torch==2.8.0
.venv-torch-newest/.installed: PACKAGES = -r requirements/tools.txt -r requirements/otel.txt torch
.venv-otel-oldest/.installed: PACKAGES = -r requirements/tools.txt -r requirements/otel-oldest.txt torch==2.13.0
.venv-python3.%/.installed: PACKAGES = -r requirements/dev.txt
.venv-python3.%/.installed: PYTHON = $(*:.venv-%=%)
.venv-canary/.installed: PACKAGES = -r requirements/tools.txt -r requirements/newest.txt
.venv-release/.installed: PACKAGES = -r requirements/release.txt

# At a terminal pip shows what it downloads; elsewhere it is quiet, but for the demo, which is somebody's first sight.
QUIET = $(if $(MAKE_TERMOUT),,--quiet)
.venv-demo/.installed: QUIET =
.venv-demo/.installed: NOTE = It downloads torch and OpenTelemetry: 0.2 GB with a CPU build of torch, several GB with CUDA, \
	which is what pip takes on Linux unless it finds a CPU build (CONTRIBUTING.md, "torch without CUDA").

# Tomorrow's newest is another.
.venv-canary/.installed: always
always:

%/.installed: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=…")'
	@echo 'Installing into $*: $(PACKAGES)'
	$(if $(NOTE),@echo '$(NOTE)')
	@$(PYTHON) -m venv --clear $*
	@$*/bin/python -m pip install $(QUIET) --disable-pip-version-check $(PACKAGES)
	@$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
