# build, test, lint, bench, docs, demo, app: everything runs in .venv, or one beside it, made when missing.

PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

INSTALLED := .venv/.installed
BUILT := .venv/.built
XLA := .venv-xla/bin
AUDIT := .venv-audit/bin
DOCS := .venv-docs/bin
INSTALL := -m pip install --quiet --disable-pip-version-check
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --only-binary :all: --emit-build-options --custom-compile-command 'make lock'
SOURCES := setup.py $(shell find csrc -type f)
CXX_FILES := $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: build lock audit licenses reference wheel docs test test-reliability test-xla soak fuzz lint format bench \
  gpu-pack demo app clean

build: $(BUILT)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dietnerf needs Python 3.11 or newer; say which one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv

$(INSTALLED): requirements.lock | $(BIN)/python
	$(BIN)/python $(INSTALL) --require-hashes -r requirements.lock
	@touch $@

$(BUILT): $(INSTALLED) $(SOURCES) pyproject.toml
	# By its path, so that a script beside the checkout does not take the folder for the package.
	$(BIN)/python $(INSTALL) --no-build-isolation --no-deps --config-settings editable_mode=compat -e .
	@$(BIN)/python -m dietnerf.ops
	@touch $@

# Versions stay as they are locked where requirements.txt allows it; a lock that was deleted takes the newest.
lock: $(INSTALLED)
	$(BIN)/$(LOCK) --output-file requirements.lock requirements.txt
	echo pip-audit==2.10.1 | $(BIN)/$(LOCK) --no-emit-package pip --output-file requirements-audit.lock -

# Faults that are known of what is locked. make ends with 2 either way; the line that it prints says "Error 1" where
# some are known, "Error 3" where that could not be asked.
audit: .venv-audit/.installed
	$(AUDIT)/python .ci/audit.py requirements.lock requirements-audit.lock

.venv-audit/.installed: requirements-audit.lock
	$(PYTHON) -m venv .venv-audit
	$(AUDIT)/python $(INSTALL) --require-hashes -r requirements-audit.lock
	@touch $@

# docs/licenses.md: what each locked package states, as it is installed on Linux with Python 3.11.
licenses: $(INSTALLED)
	$(BIN)/python .ci/licenses.py requirements.lock docs/licenses.md

# docs/reference/configs.md and options.md: what configs say, and the options of whatever they can name.
reference: build
	$(BIN)/python .ci/reference.py docs/reference

# The site, into site/: in an environment of its own, which needs no torch, as it reads the sources without importing them.
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/mkdocs build --strict --quiet
	@echo "The first page is site/index.html"

.venv-docs/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	$(DOCS)/python .ci/needed.py --only docs > .venv-docs/needed.txt
	$(DOCS)/python $(INSTALL) -r .venv-docs/needed.txt
	@touch $@

# The same bytes whenever it is made, and wherever without CUDA; what an earlier build left would be in it as well.
wheel: build
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .
	$(BIN)/python -m pip hash dist/*.whl

# One file of tests a core at a time, each with one thread: threads that wait for each other are slower.
test: export OMP_NUM_THREADS := 1
test: export OMP_WAIT_POLICY := passive
test: build
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

# In an environment of its own, 8 GB: torch_xla is made for an older torch, on which the references serve, so that
# nothing is built for it. XLA_TESTS is for pytest: CI has the time for some of them only.
.venv-xla/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-xla
	$(XLA)/python .ci/needed.py tpu > .venv-xla/needed.txt
	$(XLA)/python $(INSTALL) -r .venv-xla/needed.txt pytest
	@touch $@

test-xla: export OMP_WAIT_POLICY := passive
test-xla: .venv-xla/.installed
	PJRT_DEVICE=CPU $(XLA)/python -m pytest -q $(XLA_TESTS) tests/xla

# Faults, each tried many times: docs/reliability.md.
test-reliability: export OMP_WAIT_POLICY := passive
test-reliability: build
	$(BIN)/python -m pytest -q -m reliability tests/reliability

soak: export OMP_WAIT_POLICY := passive
soak: build
	$(BIN)/python benchmarks/soak.py --minutes 60

# A million cases for the CPU's kernels under sanitizers; wants clang.
fuzz: export OMP_WAIT_POLICY := passive
fuzz: $(INSTALLED)
	$(BIN)/python -m tests.reliability.sanitized

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)
	$(BIN)/mypy

format: build
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

bench: build
	@set -e; for script in benchmarks/bm_*.py; do echo "== $$script"; $(BIN)/python $$script; done

# .gpu/, for a machine with a GPU and without a network; the kernels are then built for that GPU alone. docs/gpu-todo.md.
gpu-pack: build
	$(BIN)/python benchmarks/gpu/pack.py

demo: build
	rm -rf $(DEMO)
	$(BIN)/python train.py fit --config configs/quickstart.yaml --run $(DEMO)
	$(BIN)/python train.py test --run $(DEMO)
	$(BIN)/python render.py $(DEMO) --size 200 200 --frames 40 --modes rgb depth \
		--out $(DEMO)/orbit.gif
	@echo "The orbit is $(DEMO)/orbit.gif. The curves: $(BIN)/tensorboard --logdir $(DEMO)"

# On every run there is; the demo's is made where there is none.
app: build | $(DEMO)/checkpoints/last.ckpt
	$(BIN)/python -m dietnerf app $(dir $(DEMO))

$(DEMO)/checkpoints/last.ckpt: | $(BUILT)
	$(MAKE) demo

clean:
	rm -rf .venv .venv-audit .venv-docs .venv-xla build site dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	rm -f dietnerf/*.so dietnerf/_build_info.json
