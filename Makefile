# Each target sets up .venv by itself: with uv if it is there, else with pip.
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null)
BIN := .venv/bin
# All Pythons of pyenv, if it is there.
NOX = PYENV_VERSION=$$(pyenv versions --bare 2>/dev/null | paste -sd: -) PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nox
PROJECTS := pyproject.toml marengo_local/pyproject.toml

ifdef UV
VENV = uv venv -q --seed --allow-existing --python $(PYTHON) .venv
INSTALL = uv pip install -q --python $(BIN)/python
else
VENV = $(PYTHON) -m venv .venv
INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check
endif

.PHONY: demo test test-all lint docs notebooks compat audit bench release-check clean

demo: .venv/demo  ## real video, indexed and searched without AWS; STORE=s3vectors: in S3 Vectors
	@$(BIN)/python -m marengo_cli demo $(if $(STORE),--store $(STORE))

test: .venv/dev  ## all tests but the slow ones, in minutes
	$(BIN)/python -m pytest

test-all: .venv/dev  ## what `make test` leaves out: the slow tests, lowest and newest versions
	$(BIN)/python -m pytest -m slow --dist load
	$(NOX) -t quick

lint: .venv/dev  ## style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/dev  ## the documentation as a site, in build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -d build/docs

notebooks: .venv/dev  ## run all notebooks and keep what they show
	$(BIN)/python notebooks/execute.py

compat: .venv/dev  ## lowest and newest versions, each extra alone, on every Python that is here
	$(NOX)

audit: .venv/dev  ## known holes of what is installed, if pip-audit's service can be reached
	$(INSTALL) pip-audit
	$(BIN)/pip-audit --skip-editable

bench: .venv/dev  ## figures as ratios of one run
	for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

release-check:  ## what is missing for a release
	$(PYTHON) release/check.py

clean:
	rm -rf .venv .nox demo-store

.venv/python: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	$(VENV)
	@touch $@

.venv/demo: .venv/python $(PROJECTS)
	@echo "Installing into .venv: a minute or two, once ..."
	@$(INSTALL) -e ./marengo_local -e '.[demo]'
	@touch $@

.venv/dev: .venv/python $(PROJECTS)
	$(INSTALL) -e ./marengo_local -e '.[dev]'
	@touch $@
