# Every target sets up what it needs. Only python3 (3.11 or newer) with pip must be installed.

PYTHON ?= python3
TAG ?= operation-watcher:dev
# The image for the tests of pods, by the name that podman gives to the result of `make image`.
WATCHER_IMAGE ?= localhost/$(TAG)
CONTAINER_RUN ?= podman
# Tests run in parallel, two processes a core (tests/conftest.py). TEST_ARGS="-n 0 -x -k name" runs some of them in one.
TEST_ARGS ?= -n auto --dist worksteal
# Each of these has a target of its own.
TESTED_ALONE = e2e pods faults soak
# Tests of faults mostly wait, so more of them than cores run in parallel.
FAULTS_ARGS ?= -n 4 --dist loadgroup
UV_VERSION = 0.13.9

# Compiled modules are kept, since compiling takes longer than most processes of tests run.
unexport PYTHONDONTWRITEBYTECODE

RUN_PY = .venv/bin/python
DEV_PY = .venv-dev/bin/python
SUPPLY_PY = .venv-supply/bin/python

.DEFAULT_GOAL = help

##@ Try it

.PHONY: demo
demo: .venv/.demo ## everything at once without an account: simulated API, daemon, status page (Ctrl-C ends it)

# A file and not phony: when only make is interrupted, it deletes the file, and .ci/foreground.py then stops the demo.
.venv/.demo: .venv/.ready FORCE
	@exec $(RUN_PY) -I -S .ci/foreground.py $@ $(RUN_PY) -m watcher demo $(DEMO_ARGS)

# Only Docker's image format keeps HEALTHCHECK.
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
test: .venv-dev/.collected ## all tests except end to end, faults and soak
	$(DEV_PY) -m pytest tests $(TESTED_ALONE:%=--ignore=tests/%) $(TEST_ARGS)

# The tracer doubles the run time, so this is separate from `make test`. From Python 3.14 on coverage uses
# sys.monitoring by itself, which costs little; in older versions that cannot measure branches.
# It leaves out tests marked `unmeasured`, which run the same lines very often. Leaving tests out can only lower the
# coverage, so it hides nothing. `make test` runs them all.
.PHONY: coverage
coverage: .venv-dev/.ready ## lines and branches that the tests run: at least 95 %, in the core all
	$(DEV_PY) -m coverage erase
	$(DEV_PY) -m coverage run -m pytest tests $(TESTED_ALONE:%=--ignore=tests/%) -m "not unmeasured" $(TEST_ARGS)
	$(DEV_PY) -m coverage combine --quiet
	$(DEV_PY) -m coverage report
	$(DEV_PY) -m coverage report --include='watcher/core/*' --fail-under=100

.PHONY: e2e
e2e: has-containers e2e-daemon pods ## all end-to-end tests; fails if a program or the image is missing

# They mostly wait, too.
E2E_SIDE_BY_SIDE ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: e2e-daemon
e2e-daemon: .venv-dev/.tools ## the end-to-end tests without containers: with a real Prometheus and browser
	@for program in promtool prometheus amtool chromium; do command -v $$program >/dev/null || \
	{ echo "make $@: needs $$program on the PATH (Debian: prometheus, prometheus-alertmanager, chromium)" >&2; exit 1; }; done
	$(DEV_PY) -m pytest tests/e2e $(E2E_SIDE_BY_SIDE) $(E2E_ARGS)

# Two at a time if each can have its own network (Linux, root), since they mostly wait for alerts.
PODS_SIDE_BY_SIDE = $(shell unshare --net true 2>/dev/null && printf %s '-n 2 --dist loadfile --no-loadscope-reorder')

.PHONY: pods
pods: has-containers .venv-dev/.tools ## the end-to-end tests of image, manifests, pods and dashboard (after make image)
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
faults: .venv-dev/.ready ## failures of real processes and sockets, and a crash at every write; writes build/faults.md
	$(DEV_PY) -m pytest tests/faults $(FAULTS_ARGS)

.PHONY: soak
soak: .venv-dev/.ready ## a month and a million operations in virtual time (SOAK_OPERATIONS for another number)
	$(DEV_PY) -m pytest tests/soak -s $(SOAK_ARGS)

# The long test of make e2e, which .ci/run leaves out.
.PHONY: flat
flat: .venv-dev/.ready ## memory and file size stay flat over 200,000 operations (FLAT_OPERATIONS for another number)
	$(DEV_PY) -m pytest tests/e2e/test_operating.py -k test_memory_and_file_stay_flat -s $(FLAT_ARGS)

.PHONY: histories
histories: .venv-dev/.ready ## 100,000 histories each of operations and of discovery with wrong times (HISTORIES for another number)
	HISTORIES=$(or $(HISTORIES),100000) $(DEV_PY) -m pytest tests/core/test_lifecycle_histories.py tests/core/test_discovery_histories.py -n 2

.PHONY: nightly
nightly: .venv-dev/.ready ## faults, soak and flat memory in one run, with one result at the end
	.ci/nightly

.PHONY: bench
bench: .venv-dev/.ready ## measure: CPU, memory, requests per operation
	$(DEV_PY) -m benchmarks $(BENCH_ARGS)

.PHONY: format
format: .venv-dev/.tools ## format the code and fix what the linter can fix
	$(DEV_PY) -m ruff format .
	$(DEV_PY) -m ruff check --fix .
	$(DEV_PY) -m ruff format .

##@ Maintain it

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

.PHONY: newest
newest: .venv-lock/bin/uv ## all tests of `make test` with the newest libraries that pyproject.toml allows, instead of the locked ones
	.venv-lock/bin/uv venv --quiet --clear --python $(PYTHON) .venv-newest
	.venv-lock/bin/uv pip install --quiet --python .venv-newest --upgrade --editable . --group test
	.venv-lock/bin/uv pip list --python .venv-newest
	.venv-newest/bin/python -m pytest tests $(TESTED_ALONE:%=--ignore=tests/%) $(TEST_ARGS)

.PHONY: sbom
sbom: .venv/.ready .venv-supply/.ready ## list packages and licences: dist/sbom.cdx.json (CycloneDX), docs/licences.md
	$(SUPPLY_PY) .ci/supply.py sbom

.PHONY: audit
audit: .venv-supply/.ready ## known vulnerabilities of the packages; fails if no database can be reached
	$(SUPPLY_PY) .ci/supply.py audit

.PHONY: clean
clean: ## remove environments, caches and measurements
	rm -rf .venv .venv-dev .venv-lock .venv-newest .venv-supply .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf build dist htmlcov .coverage .coverage.*
	find watcher tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# Environments. All packages are pinned with hashes. pip runs from outside, since an environment without its own pip
# is created in a tenth of the time. Modules are compiled when they are first imported.
# pyproject.toml is a prerequisite because the command and the version come from there.

.venv/.ready: requirements.lock build.lock pyproject.toml
	$(call environment,.venv,requirements.lock)

.venv-dev/.ready: tests/requirements.lock build.lock pyproject.toml
	$(call environment,.venv-dev,tests/requirements.lock)

# pytest rewrites every test module once and keeps the result. In a new clone each of its processes would do all of that.
COLLECT = $(DEV_PY) -m pytest -qq -n 0 --collect-only
FIRST_HALF = core watch store server manual
.venv-dev/.collected: .venv-dev/.ready
	@$(COLLECT) $(FIRST_HALF:%=tests/%) >/dev/null & \
	$(COLLECT) tests $(patsubst %,--ignore=tests/%,$(TESTED_ALONE) $(FIRST_HALF)) >/dev/null; wait
	@touch $@

# Beside what tests import: linters, and what drives browsers and manifests. It takes longer to install than all the rest.
.venv-dev/.tools: .venv-dev/.ready tests/tools.lock
	@echo "adding tools to .venv-dev"
	@$(call install,.venv-dev) tests/tools.lock
	@touch $@

.venv-supply/.ready: .ci/supply.lock build.lock pyproject.toml
	$(call environment,.venv-supply,.ci/supply.lock)

define environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "make: needs Python 3.11 or newer as $(PYTHON); set another with PYTHON=…" >&2; exit 1; }
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
