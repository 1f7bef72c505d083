# Every target sets up what it needs; python3 (3.11 or newer) with pip is all that must be there.

PYTHON ?= python3
TAG ?= operation-watcher:dev
# What the tests of pods run, as podman calls what `make image` has built.
WATCHER_IMAGE ?= localhost/$(TAG)
CONTAINER_RUN ?= podman
# Tests run side by side, two processes a core (tests/conftest.py); TEST_ARGS="-n 0 -x -k name" for a closer look.
TEST_ARGS ?= -n auto --dist worksteal
# Each of these has a target of its own.
TESTED_ALONE = e2e pods faults soak
# Faults wait more than they work, so more of them than cores go side by side.
FAULTS_ARGS ?= -n 4 --dist loadgroup
UV_VERSION = 0.13.9

# Compiled modules are kept: most processes that tests start live for less time than compiling takes.
unexport PYTHONDONTWRITEBYTECODE

RUN_PY = .venv/bin/python
DEV_PY = .venv-dev/bin/python
SUPPLY_PY = .venv-supply/bin/python

.DEFAULT_GOAL = help

##@ Try it

.PHONY: demo
demo: .venv/.demo ## everything at once with no account: simulated API, daemon, status page (Ctrl-C ends it)

# A file and not phony, so that make deletes it when make alone is interrupted: .ci/foreground.py then stops the demo.
.venv/.demo: .venv/.ready FORCE
	@exec $(RUN_PY) -I -S .ci/foreground.py $@ $(RUN_PY) -m watcher demo $(DEMO_ARGS)

# HEALTHCHECK is kept in Docker's format only.
image: export BUILDAH_FORMAT = docker

.PHONY: image
image: ## build the container image, with docker, podman or buildah (TAG=name:tag), or IMAGE_BUILD="another builder"
	@if [ -n "$(IMAGE_BUILD)" ]; then set -x; $(IMAGE_BUILD) $(TAG) .; \
	elif docker info >/dev/null 2>&1; then set -x; docker build -t $(TAG) .; \
	elif command -v podman >/dev/null; then set -x; podman build --format docker -t $(TAG) .; \
	elif command -v buildah >/dev/null; then set -x; buildah bud --format docker -t $(TAG) .; \
	else echo "make image: needs docker with a running engine, podman or buildah; none was found" >&2; exit 1; fi

##@ Work on it

.PHONY: check
check: .venv-dev/.tools ## format, lint, layers, types; quickest first
	$(DEV_PY) -m ruff format --check .
	$(DEV_PY) -m ruff check .
	$(DEV_PY) -c 'from importlinter.cli import lint_imports_command as run; run()'
	$(DEV_PY) -m mypy

.PHONY: test
test: .venv-dev/.ready ## all tests but the end-to-end ones, faults and the soak
	$(DEV_PY) -m pytest tests $(TESTED_ALONE:%=--ignore=tests/%) $(TEST_ARGS)

# The tracer makes Python half as fast, so this is apart from `make test`. From Python 3.14 on coverage uses
# sys.monitoring by itself, which costs little; older ones have no branches there.
# It leaves out tests marked `unmeasured`, which run the same lines very often. Leaving tests out can only lower what is
# measured, so it hides nothing; `make test` runs them all.
.PHONY: coverage
coverage: .venv-dev/.ready ## the lines and branches that the tests run: at least 95 %, of the core all
	$(DEV_PY) -m coverage erase
	$(DEV_PY) -m coverage run -m pytest tests $(TESTED_ALONE:%=--ignore=tests/%) -m "not unmeasured" $(TEST_ARGS)
	$(DEV_PY) -m coverage combine --quiet
	$(DEV_PY) -m coverage report
	$(DEV_PY) -m coverage report --include='watcher/core/*' --fail-under=100

.PHONY: e2e
e2e: has-containers e2e-daemon pods ## all end-to-end tests; fails where a program or the image is missing

# Most of the time they wait, too.
E2E_SIDE_BY_SIDE ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: e2e-daemon
e2e-daemon: .venv-dev/.tools ## of these, those without containers: with a real Prometheus and browser
	@for program in promtool prometheus amtool chromium; do command -v $$program >/dev/null || \
	{ echo "make $@: needs $$program on the PATH (Debian: prometheus, prometheus-alertmanager, chromium)" >&2; exit 1; }; done
	$(DEV_PY) -m pytest tests/e2e $(E2E_SIDE_BY_SIDE) $(E2E_ARGS)

# Two at a time where that can be: most of the time they wait for alerts, and each gets a network of its own (Linux, root).
PODS_SIDE_BY_SIDE = $(shell unshare --net true 2>/dev/null && printf %s '-n 2 --dist loadfile --no-loadscope-reorder')

.PHONY: pods
pods: has-containers .venv-dev/.tools ## of these, those of the image, manifests, pods and dashboard (after make image)
	@for program in promtool prometheus amtool; do command -v $$program >/dev/null || \
	{ echo "make $@: needs $$program on the PATH (Debian: prometheus, prometheus-alertmanager)" >&2; exit 1; }; done
	WATCHER_IMAGE=$(WATCHER_IMAGE) CONTAINER_RUN="$(CONTAINER_RUN)" $(DEV_PY) -m pytest tests/pods -rP \
	$(PODS_SIDE_BY_SIDE) $(E2E_ARGS)

.PHONY: has-containers
has-containers:
	@command -v $(firstword $(CONTAINER_RUN)) >/dev/null || \
	{ echo "make: needs podman on the PATH, or CONTAINER_RUN=\"another podman\"; without: make e2e-daemon" >&2; exit 1; }
	@$(CONTAINER_RUN) image inspect $(WATCHER_IMAGE) >/dev/null 2>&1 || \
	{ echo "make: needs the image $(WATCHER_IMAGE): make image; without: make e2e-daemon" >&2; exit 1; }

.PHONY: faults
faults: .venv-dev/.ready ## what can go wrong, with real processes and sockets, and a crash at every write; build/faults.md
	$(DEV_PY) -m pytest tests/faults $(FAULTS_ARGS)

.PHONY: soak
soak: .venv-dev/.ready ## a month and a million operations in virtual time (SOAK_OPERATIONS for another number)
	$(DEV_PY) -m pytest tests/soak -s $(SOAK_ARGS)

# The long test of make e2e, which the gate leaves out.
.PHONY: flat
flat: .venv-dev/.ready ## memory and file stay flat over 200,000 operations (FLAT_OPERATIONS for another number)
	$(DEV_PY) -m pytest tests/e2e/test_operating.py -k test_memory_and_file_stay_flat -s $(FLAT_ARGS)

.PHONY: histories
histories: .venv-dev/.ready ## 100,000 histories each of operations and of discovery with wrong times (HISTORIES for another number)
	HISTORIES=$(or $(HISTORIES),100000) $(DEV_PY) -m pytest tests/core/test_lifecycle_histories.py tests/core/test_discovery_histories.py -n 2

.PHONY: nightly
nightly: .venv-dev/.ready ## faults, soak and flat memory in one go, with one verdict at the end
	.ci/nightly

.PHONY: bench
bench: .venv-dev/.ready ## measure: CPU, memory, requests per operation
	$(DEV_PY) -m benchmarks $(BENCH_ARGS)

.PHONY: format
format: .venv-dev/.tools ## format the code and repair what the linter can
	$(DEV_PY) -m ruff format .
	$(DEV_PY) -m ruff check --fix .
	$(DEV_PY) -m ruff format .

##@ Look after it

# Universal: one file for every supported Python, Linux and macOS. With `make lock UPGRADE=--upgrade` all move to the newest.
UV_COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --annotation-style line --no-emit-index-url --no-emit-find-links $(UPGRADE)

.PHONY: lock
lock: .venv-lock/bin/uv ## resolve the lock files again (UPGRADE=--upgrade for newer versions)
	$(UV_COMPILE) pyproject.toml --output-file requirements.lock
	$(UV_COMPILE) pyproject.toml --group tools --constraints requirements.lock --output-file tests/tools.lock
	$(UV_COMPILE) pyproject.toml --group test --constraints tests/tools.lock --output-file tests/requirements.lock
	$(UV_COMPILE) --no-annotate --group build --output-file build.lock
	$(UV_COMPILE) --no-annotate --group supply --output-file .ci/supply.lock

.PHONY: sbom
sbom: .venv/.ready .venv-supply/.ready ## what is inside, with licences: dist/sbom.cdx.json (CycloneDX), docs/licences.md
	$(SUPPLY_PY) .ci/supply.py sbom

.PHONY: audit
audit: .venv-supply/.ready ## known vulnerabilities of what is inside; says so where no database can be reached
	$(SUPPLY_PY) .ci/supply.py audit

.PHONY: clean
clean: ## remove environments, caches and what was measured
	rm -rf .venv .venv-dev .venv-lock .venv-supply .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf build dist htmlcov .coverage .coverage.*
	find watcher tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# Environments. All of their content is pinned with hashes. pip runs from the outside: an environment without
# a pip of its own is made in a tenth of the time. Nothing is compiled beforehand: what is imported is compiled then.
# pyproject.toml is among the prerequisites because the command and the version come from there.

.venv/.ready: requirements.lock build.lock pyproject.toml
	$(call environment,.venv,requirements.lock)

.venv-dev/.ready: tests/requirements.lock build.lock pyproject.toml
	$(call environment,.venv-dev,tests/requirements.lock)

# Beside what tests import: linters, and what drives browsers and manifests. It takes longer to install than all the rest.
.venv-dev/.tools: .venv-dev/.ready tests/tools.lock
	@echo "adding tools to .venv-dev"
	@$(call install,.venv-dev) tests/tools.lock
	@touch $@

.venv-supply/.ready: .ci/supply.lock build.lock pyproject.toml
	$(call environment,.venv-supply,.ci/supply.lock)

define environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "make: needs Python 3.11 or newer as $(PYTHON); say another with PYTHON=…" >&2; exit 1; }
@echo "setting up $(1)"
@rm -rf $(1)
@if $(PYTHON) -m pip --version >/dev/null 2>&1; \
	then $(PYTHON) -m venv --without-pip $(1); else $(PYTHON) -m venv $(1); fi
@$(call install,$(1)) $(2) -r build.lock
@$(call pip,$(1)) install -qq --no-compile --no-deps --no-index --no-build-isolation -e .
@touch $@
endef

# The pip of an environment: one outside where there is one.
pip = export PIP_DISABLE_PIP_VERSION_CHECK=1; if $(PYTHON) -m pip --version >/dev/null 2>&1; \
	then pip="$(PYTHON) -m pip --python $(1)/bin/python"; else pip="$(1)/bin/python -m pip"; fi; $$pip
install = $(call pip,$(1)) install -qq --no-compile --no-deps --require-hashes -r

.venv-lock/bin/uv:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv==$(UV_VERSION)

FORCE:
