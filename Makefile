# What CI runs is what people run. Each target makes .venv and installs what it needs first.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help install book test test-site contract lint bench retrain serve clean

help: ## list these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

install: ## make .venv and install requirements.txt into it
	@$(PYTHON) website/install.py

book: install ## run the pages that changed and build the site into _build/site
	@$(BIN)/python -m website.build

test: install ## run the tests, on all cores
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-site: book ## look at the built site in a browser, follow its launch buttons, break its builds
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m site -n 4 --dist worksteal tests/site

contract: install ## run the tests that touch transformers with its lowest and newest version
	@OMP_NUM_THREADS=1 $(BIN)/python tests/contract.py

lint: install ## check style, formatting, and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

bench: install ## measure what the book promises about speed
	@$(BIN)/python experiments/bench.py

retrain: install ## make everything in vlmbook/weights again, in order
	@$(BIN)/python recipes/tokenizer.py
	@$(BIN)/python recipes/clip_mini.py
	@$(BIN)/python recipes/clip_english.py
	@$(BIN)/python recipes/blip_mini.py
	@$(BIN)/python recipes/llava_mini.py
	@$(BIN)/python recipes/readers.py

serve: book ## build the site and serve it at http://localhost:8000/en/
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/site 8000

clean: ## remove what was built (not .venv)
	rm -rf _build build *.egg-info .pytest_cache .ruff_cache .import_linter_cache
