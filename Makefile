# build, test, lint, bench, demo: everything runs in .venv, which is made when it is missing.

PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

INSTALLED := .venv/.installed
BUILT := .venv/.built
SOURCES := setup.py $(shell find csrc -type f)
CXX_FILES := $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: build test test-reliability soak lint format bench demo clean

build: $(BUILT)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dietnerf needs Python 3.11 or newer; say which one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv

$(INSTALLED): requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(BUILT): $(INSTALLED) $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@$(BIN)/python -m dietnerf.ops
	@touch $@

# Threads that spin while they wait make a busy machine many times slower.
test: export OMP_WAIT_POLICY := passive
test: build
	$(BIN)/python -m pytest -q

# Faults, each tried many times: docs/reliability.md.
test-reliability: export OMP_WAIT_POLICY := passive
test-reliability: build
	$(BIN)/python -m pytest -q -m reliability tests/reliability

soak: export OMP_WAIT_POLICY := passive
soak: build
	$(BIN)/python benchmarks/soak.py --minutes 90

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

demo: build
	rm -rf $(DEMO)
	$(BIN)/python train.py fit --config configs/quickstart.yaml --run $(DEMO)
	$(BIN)/python train.py test --run $(DEMO)
	$(BIN)/python render.py $(DEMO) --size 200 200 --frames 40 --out $(DEMO)/orbit.gif
	@echo "The orbit is $(DEMO)/orbit.gif. The curves: $(BIN)/tensorboard --logdir $(DEMO)"

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	rm -f dietnerf/*.so dietnerf/_build_info.json
