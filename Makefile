# make book, make test: the two commands. Everything is installed into .venv; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PRESET ?= quick

.PHONY: book test sync lint clean

book: $(INSTALLED)
	$(BIN)/python -m softeels_utils book --preset $(PRESET)

test: $(INSTALLED)
	$(BIN)/python -m pytest

# Bring each NAME.ipynb into step with its NAME.py (the source).
sync: $(INSTALLED)
	$(BIN)/python -m jupytext --sync notebooks/[0-9]*.py

lint: $(INSTALLED)
	$(BIN)/python -m ruff check . && $(BIN)/python -m ruff format --check .

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[book,test]' --constraint constraints.txt
	touch $@

clean:
	rm -rf $(VENV) book/_build
