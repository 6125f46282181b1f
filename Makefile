# The front door. Needs Python 3.11 or later and make; everything else is installed into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PINS := $(VENV)/pins
KILLS ?= 1000
SIGNALS ?= 200
SEEDS ?= 1000000
RENDERINGS ?= 50000

.PHONY: help demo test check lint types schemas docs site picture frozen golden requirements release browser bench torture hostile clean

help: ## Show what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing into $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## Watch the main job end to end, on the embedded emulator
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

test: lint types ## Lint, types and all tests
	@$(BIN)/python -m pytest -q -n 2

check: test ## The same as test

lint: $(READY) ## Style
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --no-cache --check .

types: $(READY) ## Types
	@$(BIN)/mypy --cache-dir=$(VENV)/mypy

schemas: $(READY) ## Write the generated schemas and reference anew
	@$(BIN)/python -m reconciler.core.contract_files

docs: $(READY) ## Write the generated pages of docs/ anew
	@$(BIN)/python -m tests.support.generated_pages

site: $(READY) ## Build the documentation as a site, into build/site
	@$(BIN)/sphinx-build -q -W --keep-going -b dirhtml -d $(VENV)/doctrees -c docs/site . build/site
	@echo "build/site/index.html"

picture: $(READY) ## Draw the terminal of the README anew
	@$(BIN)/python docs/site/picture.py

frozen: $(READY) ## Write the list of what is frozen anew; read its diff
	@$(BIN)/python -m tests.support.frozen

golden: $(READY) ## Write what the formats are expected to be anew
	@$(BIN)/python -m tests.support.golden

requirements: $(READY) ## Write requirements-ci.txt anew: what CI installs, with hashes
	@rm -f $(PINS)/requirements.txt
	@test -x $(PINS)/bin/pip-compile || { $(PYTHON) -m venv $(PINS) && \
		$(PINS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip-tools==7.6.2; }
	@$(PINS)/bin/pip-compile --quiet --generate-hashes --build-deps-for wheel --strip-extras --allow-unsafe --no-header \
		--no-annotate --no-emit-options --constraint constraints.txt --extra objects --extra gcs --extra postgres \
		--output-file $(PINS)/requirements.txt pyproject.toml
	@{ echo '# Written by `make requirements`: what the Action installs. Versions come from constraints.txt.'; \
		cat $(PINS)/requirements.txt; } > requirements-ci.txt

release: ## Build the distributions into dist, and try them in fresh environments
	@PYTHON="$(PYTHON)" .ci/release

browser: ## Install a Chromium for the tests of the HTML report (Debian, as root)
	@command -v chromium >/dev/null || { apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null; }

torture: $(READY) ## Break it in earnest: KILLS, SIGNALS and SEEDS say how often
	@$(BIN)/python -m tests.torture --kills $(KILLS) --signals $(SIGNALS) --seeds $(SEEDS)

hostile: $(READY) ## Hostile text through every writer, parsed back; RENDERINGS says how often
	@HOSTILE_RENDERINGS=$(RENDERINGS) $(BIN)/python -m pytest -q -n 2 tests/reports/test_hostile_writers.py

bench: $(READY) ## Measure; BENCH='--full --write' does it in full size, into benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks $(BENCH)
	@$(BIN)/python -m benchmarks.reports
	@$(BIN)/python -m benchmarks.apply

clean: ## Remove what was installed and made
	@rm -rf $(VENV) build dist .hypothesis .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
