# Two commands do everything on Debian 12 with Python 3.11: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo-data
.DEFAULT_GOAL := help
.PHONY: help env dev demo demo-check demo-reset test test-fast lint lock screenshots vendor translations clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: env  ## play the closed loop with real hosts, then leave the web running
	@$(BIN)/msp demo --folder $(DEMO)

demo-check: env  ## play the closed loop in a fresh folder, check each step's result, and stop
	@$(BIN)/msp demo --check

demo-reset:  ## forget the demo, so that the next make demo starts afresh
	rm -rf $(DEMO)

test: dev  ## everything: lint, types, imports, both databases, real servers, migrations, wheel, demo
	@tools/test.sh

test-fast: dev  ## the tests that need no server, in under a minute
	@$(BIN)/pytest -q -n auto -m "not slow and not server and not browser"

lint: dev  ## style, types and import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

screenshots: dev  ## pictures of every page into docs/img, in both languages and widths
	@$(BIN)/python tools/screenshots.py

vendor:  ## fetch the pinned scripts, styles and icons of the pages anew
	@$(BIN)/python tools/vendor.py

translations: dev  ## collect the words of the pages and compile the catalogues
	@$(BIN)/python tools/translations.py

lock:  ## write the locked dependencies anew from pyproject.toml
	uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
		pyproject.toml --group build -o requirements/base.txt
	uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
		pyproject.toml --extra postgres --extra fast --extra routing --extra network --extra openbao \
		--group build --group dev -c requirements/base.txt -o requirements/dev.txt
	uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
		pyproject.toml --extra kerberos -c requirements/dev.txt \
		$$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements/dev.txt) -o requirements/kerberos.txt

clean:  ## remove the environment and everything built
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .coverage* htmlcov

env:
	@PYTHON=$(PYTHON) tools/environment.sh base

dev:
	@PYTHON=$(PYTHON) tools/environment.sh dev
