# Every target does its own set-up: on a fresh machine `make train` and `make test` install first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install train test lint clean

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

train: install
	# One thread: the products are small, and two threads wait for each other on a busy machine.
	OMP_NUM_THREADS=1 $(BIN)/python scripts/train_ram.py

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --cov --cov-report=term --cov-fail-under=90

clean:
	rm -rf .venv build dist
