# Every target sets up what it needs: one virtual environment in the checkout, made again when the
# dependencies change. CPU-only torch from elsewhere: PIP_EXTRA_INDEX_URL=… make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# tests run on one thread each; files stay whole, as they share what is slow to make
IN_PARALLEL := -n logical --maxprocesses 4 --dist loadfile

# constraints.txt is for Python 3.11 and later
CONSTRAINED = $(shell $(PYTHON) -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11) else "")')
# interpreters that make test-pythons resolves for, where they are installed
PYTHONS ?= python3.10 python3.11 python3.12 python3.13

.PHONY: demo test test-oldest test-pythons faults bench ray lint clean app browser
test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow and not faults and not browser and not hub"

demo: $(STAMP)
	$(BIN)/python scripts/demo.py --output runs/demo

# the page to rate on, in the demo's world
app: $(STAMP)
	test -d runs/demo/model || $(BIN)/python scripts/demo.py --output runs/demo
	$(BIN)/python scripts/app.py --images runs/demo/ratings/images --model runs/demo/model --store runs/app.db

# needs Chromium; CHROMIUM=… says where it is
browser: $(STAMP)
	$(BIN)/python -m pytest -m browser $(PYTEST_ARGS)

# every proof of SECURITY.md at its full number, at most 30 minutes on two quiet cores;
# FAULTS="--write SECURITY.md" puts the figures into its table
faults: $(STAMP)
	$(BIN)/python tests/run_faults.py --output runs/faults $(FAULTS)

# the lower bounds of setup.cfg, in a second environment; of torch, PyPI's build for Linux brings CUDA's libraries:
# make test-oldest PYTHON=python3.10 TORCH=2.10.0
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest -m "not slow and not faults and not browser and not hub"

# whether all of the package's requirements resolve, without installing anything
test-pythons:
	for python in $(PYTHONS); do \
		$$python -c "" 2>/dev/null || { echo "$$python: not installed here"; continue; }; \
		rm -rf .venv-resolve && $$python -m venv .venv-resolve || exit 1; \
		pinned=$$($$python -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11) else "")'); \
		.venv-resolve/bin/python -m pip install --quiet --dry-run $$pinned ".[dev]" || exit 1; \
		echo "$$python: resolves $$pinned"; \
	done; rm -rf .venv-resolve

# some ten minutes on two cores, alone; writes the table of model_card/RESULTS.md, too
bench: $(STAMP)
	test -f runs/demo/model/config.json || $(BIN)/python scripts/demo.py --output runs/demo
	$(BIN)/python scripts/bench.py --output runs/bench --results model_card/RESULTS.md

# Ray Data on a local cluster; Ray is not part of dev: 79 MB to fetch, 240 MB on the disk
ray: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[ray]"
	$(BIN)/python -m pytest -m ray

lint: $(STAMP)
	$(BIN)/ruff check .

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(CONSTRAINED) -e ".[dev]"
	touch $(STAMP)

.venv-oldest/.installed: setup.cfg constraints.txt scripts/oldest_versions.py
	$(PYTHON) -m venv .venv-oldest
	$(PYTHON) scripts/oldest_versions.py > .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet -c .venv-oldest/oldest.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest .venv-resolve runs
