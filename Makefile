# make demo: the five systems on the bundled corpus · make test: lint and tests · make test-slow: training on real data
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.fastmer-ready
export OMP_WAIT_POLICY ?= PASSIVE  # as the commands do: threads that spin starve each other on a busy machine

.PHONY: demo test test-slow lint clean

demo: $(READY)
	$(BIN)/fastmer demo --out demo-out

test: $(READY) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile  # a file's fixtures are made once

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow --timeout 3600

lint: $(READY)
	$(BIN)/ruff check .

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) build dist demo-out *.egg-info
