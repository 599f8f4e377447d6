# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help demo test check slow figures omp real-size families models format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/.installed ## set up, then transplant one bundled model onto the other's tokenizer
	$(BIN)/tokswap transplant --base tiny-llama --donor tiny-mistral --out out/demo --overwrite

check: .venv/.installed ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A process for each core, each with one thread; a file's tests stay together, for they share models.
# Bytecode is kept even where the environment forbids it: many tests start processes of their own.
test: check ## set up, then lint, types and all tests
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

slow: .venv/.installed ## the tests that take minutes: every type of model, every tokenizer, the notebook of methods
	$(BIN)/pytest -m slow
	$(BIN)/pytest tests/test_families.py --all-families

figures: .venv/.installed ## the README's table of methods
	$(BIN)/python benchmarks/methods.py

omp: .venv/.installed ## OMP beside scikit-learn and, with PEER=its python, mergekit
	$(BIN)/python benchmarks/omp.py $(if $(PEER),--peer $(PEER))

TOKENIZERS ?= ../shared/tokenizers
REAL_SIZE ?=
real-size: .venv/.installed ## a transplant at real size, measured: TOKENIZERS=folder of llama3 and mistral-nemo
	$(BIN)/python benchmarks/real_size.py --tokenizers $(TOKENIZERS) $(REAL_SIZE)

families: .venv/.installed ## docs/families.md: every family of models, tried (minutes)
	$(BIN)/python tests/test_families.py > docs/families.md.new
	mv docs/families.md.new docs/families.md

models: .venv/.installed ## train the bundled models anew (about 40 minutes)
	$(BIN)/python -m tokswap.bundled.train

format: .venv/.installed ## format the sources, mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and what runs left behind
	rm -rf .venv out build dist .mypy_cache .pytest_cache .ruff_cache
