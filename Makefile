# make quickstart: from nothing to pictures.   make test: everything that CI runs.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: quickstart test test-slow test-demo faults orders claims bench-gpu lint types clean

quickstart: $(STAMP)
	$(BIN)/sfumato quickstart

# the networks of tests are tiny: a second thread waits more than it works, above all where something else runs
ONE := OMP_NUM_THREADS=1

# a worker per core, each with whole files, so that what a file has made is made once
WORKERS ?= 2

test: lint types
	$(ONE) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: $(STAMP)
	$(ONE) $(BIN)/python -m pytest -m slow --ignore tests/faults

# the demo in a real browser: Debian's chromium, or the one that SFUMATO_CHROMIUM names; MORE='--screenshots FOLDER' also takes pictures
test-demo: .venv/.browser
	$(ONE) $(BIN)/python -m pytest tests/tools/demo -m browser $(MORE)

.venv/.browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[quickstart,dev,browser]'
	test -n "$$SFUMATO_CHROMIUM" || command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  { SUDO=; test "$$(id -u)" = 0 || SUDO=sudo; $$SUDO apt-get update -qq && $$SUDO apt-get install -qq -y --no-install-recommends chromium; } || \
	  { echo 'There is no chromium here, and apt-get could not install it; install one, or name it: SFUMATO_CHROMIUM=/usr/bin/...' >&2; exit 1; }
	touch $@

faults: $(STAMP)
	$(ONE) $(BIN)/python -m pytest tests/faults -m "slow or not slow" --fault-table runs/faults.json

orders: $(STAMP)
	$(BIN)/sfumato orders

# the quickest, nine minutes of the processor in all, from nothing, held against what is recorded
claims: $(STAMP)
	$(ONE) $(BIN)/sfumato claims --again

# each row of `sfumato bench gpu` by itself, and the goals; GPU_PYTHON=python3 where nothing can be installed, MORE=--quick to see that it runs
GPU_PYTHON ?= $(BIN)/python
ROWS ?= DiT-XL/2 DiT-B/2 DDPM++ DDPM++-augmented sampling step compiling waits resume noise out-of-memory
OUT ?= runs/gpu

bench-gpu:
	for row in $(ROWS); do timeout 580 $(GPU_PYTHON) -m sfumato.tools.cli bench gpu --only "$$row" $(MORE) \
	  --out "$(OUT)/$$(printf %s "$$row" | tr -c 'A-Za-z0-9' -)" || echo "$$row: not measured"; done
	$(if $(MORE),,$(GPU_PYTHON) -m sfumato.tools.cli bench goals --out $(OUT))

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/basedpyright

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Sfumato needs Python 3.11 or newer, this is {v.major}.{v.minor}; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[quickstart,dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
