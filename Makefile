# The two commands of the README are `make demo` and `make test`. Both make their environment first.
# ENV=folder puts it elsewhere, PYTHON=program chooses the Python (3.10 to 3.12: BasicSR's setup fails on later ones).

ENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$python && break; \
	done)
BIN = $(ENV)/bin
DATA ?=
export OMP_NUM_THREADS ?= 1

.PHONY: test lint types docs demo networks bench-quick clean

# a worker that crashes ends the run: replaced, it would leave loadgroup waiting for ever
test: $(ENV)/.test lint types
	$(BIN)/python -m pytest -n 2 --dist loadgroup --max-worker-restart=0

lint: $(ENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(ENV)/.test build/names
	$(BIN)/basedpyright --pythonpath $(BIN)/python

# neither tool reads an editable install's mapping of names to folders, but both follow links
build/names: setup.py
	mkdir -p $@
	for name in datasets inference measure options; do ln -sfn ../../$$name $@/gcfsr_$$name; done
	touch $@

docs: $(ENV)/.docs build/names
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/docs/index.html"

demo: $(ENV)/.core
	$(BIN)/python tools/demo_image.py $(if $(DATA),--data "$(DATA)")

# DATA: one folder or several; ARGS: further arguments of tools/make_networks.py
networks: $(ENV)/.core
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[optimizers]"
	$(BIN)/python tools/make_networks.py --data $(DATA) $(ARGS)

bench-quick: $(ENV)/.core
	$(BIN)/python benchmarks/quick.py

# torch comes first: BasicSR's setup asks for it, and would fetch one of its own into an isolated build
$(ENV)/.core: setup.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.10 to 3.12 found; name one with PYTHON=" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet "torch>=2.5" "torchvision>=0.20"
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[train]"
	touch $@

$(ENV)/.test: $(ENV)/.core
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[test]"
	touch $@

$(ENV)/.docs: $(ENV)/.core
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[docs]"
	touch $@

clean:
	rm -rf $(ENV) build dist gcfsr.egg-info
