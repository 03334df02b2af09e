# Everything from nothing: Python 3.11 or newer, make and g++ are all that must be there.
# Each step is done once; a second run starts where the first one ended.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -q
# What a newcomer runs first: the pages' snippets and the examples.
PAGES  := tests/test_docs.py tests/test_docstrings.py tests/test_examples.py
# Of these, examples and pages that take two seconds and more run once, but for those of NUTS and ADVI.
QUICK  := not sklearn_pipeline and not choose_components and not pictures.py and not compare_methods.py \
  and not sensitivity.py and not regression.py and not two_modes.py and not choosing.md and not clusters.md \
  and not classes.md and not howto.md and not large.md and not tour.md and not readme_shows

.DEFAULT_GOAL := help
.PHONY: help venv cmdstan model demo picture test test-fast test-processors test-stan-versions test-matrix bench bench-peers docs sbc fuzz \
  wheel release-check lint format hooks clean
.DELETE_ON_ERROR:
.NOTPARALLEL:  # pip runs once at a time; what may run side by side does so inside its step

help:  ## list the targets
	@echo "make <target>, where <target> is one of"
	@sed -n 's/^\([a-z-]*\):[^#]*## /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22
	@echo "Another Python: make PYTHON=python3.12 ...; some tests: .venv/bin/python -m pytest tests/test_em.py"

venv: $(VENV)/installed  ## make .venv with the package in it

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "stangmm needs Python 3.11 or newer, but '$(PYTHON)' is not."; \
	  echo "Name another one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON) -m venv' does not work here: the Debian package python3-venv is missing."; \
	  echo "Install it: sudo apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-release: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[release]'
	@touch $@ $(VENV)/installed

# Both ask what is there before they do anything, so they need no stamp.
cmdstan: $(VENV)/installed  ## install CmdStan, unless there is one
	@$(BIN)/python -c 'from stangmm.cmdstan import find_cmdstan; find_cmdstan()' 2>/dev/null \
	  || $(BIN)/stangmm install-cmdstan

model: cmdstan  ## compile the Stan model, unless it is in the cache
	@$(BIN)/python -c 'from stangmm.cmdstan import compiled_model; compiled_model()'

demo: model  ## fit real data in four ways and compare them
	$(BIN)/python examples/compare_methods.py

docs: model $(VENV)/installed-docs  ## build the documentation in out/docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs out/docs
	$(BIN)/python docs/links.py out/docs

picture: model  ## make the README's picture anew
	$(BIN)/python examples/readme_picture.py

test: lint model  ## lint, then every test: fast ones, those with Stan, statistical ones
	@echo "== tests without Stan"
	$(PYTEST) -n 2 -m "not stan and not statistical"
	@echo "== tests with Stan"
	$(PYTEST) -n 2 -m "stan and not statistical"
	@echo "== a choice of tests, as on processors with less"
	$(BIN)/python tests/processors.py avx2 $(PYTEST) -n 2 -k "$(QUICK)" tests/test_em.py tests/test_docs.py tests/test_examples.py
	$(BIN)/python tests/processors.py plain $(PYTEST) -n 2 -k "$(QUICK)" tests/test_em.py tests/test_docs.py tests/test_examples.py
	@echo "== statistical tests"
	$(PYTEST) -n 2 -m "statistical" || { code=$$?; test $$code -eq 5; }  # 5: there are none

test-processors: model $(VENV)/installed-test  ## fast tests, pages and examples as on AVX-512, AVX2 and plain x86-64
	for each in avx512 avx2 plain; do \
	  echo "== on a processor with $$each"; \
	  $(BIN)/python tests/processors.py $$each $(PYTEST) -n 2 -m "not stan and not statistical" && \
	  $(BIN)/python tests/processors.py $$each $(PYTEST) -n 2 $(PAGES) || exit 1; \
	done
	$(PYTEST) tests/test_processors.py

test-fast: $(VENV)/installed-test  ## the tests that need no CmdStan
	$(PYTEST) -n 2 -m "not stan and not statistical"

test-stan-versions: $(VENV)/installed-test  ## the native kernel against Stan 2.28 to 2.39 (downloads)
	$(BIN)/python tests/stan_versions/run.py
	$(BIN)/python tests/stan_versions/services.py
	$(BIN)/python tests/stan_versions/services.py --battery 2.35.0

test-matrix: model $(VENV)/installed-test  ## lowest and newest dependencies, every Python there is, ArviZ both ways
	$(BIN)/python tests/version_matrix.py

bench-peers: $(VENV)/installed  ## install what the benchmarks compare with (large)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt

bench: model  ## every benchmark; peers that are not installed are left out
	$(BIN)/python benchmarks/gradient.py
	$(BIN)/python benchmarks/em.py
	$(BIN)/python benchmarks/em_seeds.py
	$(BIN)/python benchmarks/nuts.py
	$(BIN)/python benchmarks/laplace.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/loo.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/small.py
	$(BIN)/python benchmarks/field.py em
	$(BIN)/python benchmarks/field.py nuts
	$(BIN)/python benchmarks/field.py advi

sbc: model $(VENV)/installed-test  ## simulation-based calibration; an hour or two, goes on where it was stopped
	PYTHONPATH=tests $(BIN)/python -m calibration.run simulate --method nuts --replications 500
	PYTHONPATH=tests $(BIN)/python -m calibration.run simulate --method advi --replications 100
	PYTHONPATH=tests $(BIN)/python -m calibration.run simulate --method laplace --replications 100
	PYTHONPATH=tests $(BIN)/python -m calibration.run summary

fuzz: model $(VENV)/installed-test  ## faults in large: arguments, files, kills, compiles, full disks; hours
	PYTHONPATH=tests $(BIN)/python -m robustness.arguments --inputs 100000
	PYTHONPATH=tests $(BIN)/python -m robustness.files --bytes 90000 --tree 10000
	PYTHONPATH=tests $(BIN)/python -m robustness.tables --files 100000
	PYTHONPATH=tests $(BIN)/python -m robustness.kills --trials 300
	PYTHONPATH=tests $(BIN)/python -m robustness.compiles --processes 20
	PYTHONPATH=tests $(BIN)/python -m robustness.surroundings
	@test "$$(id -u)" != 0 || PYTHONPATH=tests $(BIN)/python -m robustness.disks

out/wheel/compiled: release/compile_model.py release/cpu_model.cpp $(wildcard stan/*.stan stan/kernel/*/*) | cmdstan $(VENV)/installed-release
	$(BIN)/python release/compile_model.py $@
	@touch $@

wheel: out/wheel/compiled  ## a wheel with the compiled model in out/dist (Linux on x86_64)
	STANGMM_COMPILED=$< $(BIN)/python -m build --wheel --outdir out/dist

release-check: wheel  ## build what is released, and check it as those who install it would
	$(BIN)/python -m build --outdir out/dist
	$(BIN)/python release/check.py out/dist

lint: $(VENV)/installed-test  ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-test  ## bring the code into the layout that lint asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: $(VENV)/installed  ## run the checks of lint before every commit (pre-commit)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pre-commit
	$(BIN)/pre-commit install

clean:  ## remove .venv and what the tools left; CmdStan and compiled models stay
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
