# Every target sets up what it needs: one virtual environment in the checkout, made again when the
# dependencies change. CPU-only torch from elsewhere: PIP_EXTRA_INDEX_URL=… make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# tests run on one thread each; files stay whole, as they share what is slow to make
IN_PARALLEL := -n logical --maxprocesses 4 --dist loadfile

.PHONY: demo test test-oldest faults bench ray lint clean app browser
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

faults: $(STAMP)
	$(BIN)/python tests/run_faults.py --output runs/faults

# the lower bounds of setup.cfg, in a second environment
test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest -m "not slow and not faults and not browser and not hub"

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
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)

.venv-oldest/.installed: setup.cfg constraints.txt scripts/oldest_versions.py
	$(PYTHON) -m venv .venv-oldest
	$(PYTHON) scripts/oldest_versions.py > .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet -c .venv-oldest/oldest.txt -e ".[heads,pipeline,evaluate,study,trackers]" "pytest>=8" "hypothesis>=6.100"
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest runs
