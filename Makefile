# Needs Python 3.11 or later and make; everything else is installed into .venv and .tools.
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
export PORT
# Of these a tree without the example keeps some.
CHECKED = $(wildcard tests/test_architecture.py tests/test_documentation.py tests/migrations/test_migrations.py)
# What counts all that a process imports would count coverage.py too.
UNMEASURED = --ignore tests/platforms/test_import_budget.py

SHORT = $(filter short,$(FAULTS))
FUZZED = IDIOM_REQUESTS=$(if $(SHORT),300,20000)
# What is done through a pooler is done again through a newer PgBouncer, or through the one that is given.
POOLED = $(addprefix tests/faults/test_,fault_table.py against_stock.py pgbouncer.py idle_backends.py cut.py) \
	tests/onetrip/shared_reads tests/idioms/test_fuzz.py

# By uv if it is there, else by what Python brings.
export UV_SYSTEM_CERTS ?= 1
WITH_UV = uv venv --quiet --seed --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV) && \
	uv pip install --quiet --python $(BIN)/python -r requirements.txt --group dev
WITH_PIP = $(PYTHON) -m venv $(VENV) || \
	{ echo "Python's venv is missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; } && \
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" && \
	$(BIN)/python -m pip install --quiet -r requirements.txt --group dev

.DEFAULT_GOAL := help
.PHONY: help install dev test test-plain test-all check format migrate migration review doctor package wheel test-wheel test-platforms faults sqlalchemy-suite coverage audit bench bench-quick pictures new clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Create .venv and install what is pinned

dev: $(VENV)/.installed ## Serve on 127.0.0.1:$PORT with a PostgreSQL of its own, migrated and seeded
	@exec $(BIN)/python -m dev.server

test: $(VENV)/.installed ## Run the quick tests on real PostgreSQL and PgBouncer (minutes; ARGS=tests: all of them)
	@exec $(BIN)/python -m pytest $(or $(ARGS),-m "not slow")

test-plain: $(VENV)/.installed ## Run the tests that use a database with the single flight turned off
	@DATABASE_SINGLE_FLIGHT=off exec $(BIN)/python -m pytest $(or $(ARGS),$(wildcard tests/onetrip tests/idioms tests/example))

test-all: ## Run everything that continuous integration runs
	@$(MAKE) test ARGS=tests --no-print-directory && $(MAKE) test-plain && $(MAKE) test-platforms && $(MAKE) faults FAULTS=short && $(MAKE) check

check: $(VENV)/.installed ## Format, lint, types, architecture, migrations against models
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && \
	$(BIN)/python -m pytest -n 0 $(CHECKED)

format: $(VENV)/.installed ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix-only . ; $(BIN)/ruff format .

migrate: $(VENV)/.installed ## Bring the schema of DATABASE_URL to the newest migration, over the direct URL
	@exec $(BIN)/python -m alembic $(ARGS) upgrade head

migration: $(VENV)/.installed ## Write a migration from what the models have and the schema has not: M="add subtitle"
	@exec $(BIN)/python -m dev.migration "$(M)" $(EMPTY)

review: $(VENV)/.installed ## Say which running requests the newest migration would hurt, and how to spare them
	@exec $(BIN)/python -m dev.review $(ARGS)

doctor: $(VENV)/.installed ## Say what is wrong with settings, network, database and packages, and what to do
	@exec $(BIN)/python -m lib.onetrip.doctor --own lib.settings:OWN $(ARGS)

package: $(VENV)/.installed ## Build Vercel's and Lambda's packages into build/, offline from both
	@exec $(BIN)/python -m deploy

wheel: $(VENV)/.installed ## Build the package onetrip, a wheel and a source distribution, into build/wheel
	@exec $(BIN)/python -m deploy.wheel

test-wheel: $(VENV)/.installed ## Run all tests of the package onetrip against its wheel, without FastAPI and with it
	@WHEEL_TESTS="$(or $(ARGS),tests/onetrip)" exec $(BIN)/python -m pytest -n 0 tests/packages/test_wheel.py

test-platforms: package ## Check the packages, and run them in their platforms' own runtimes
	@exec $(BIN)/python -m pytest tests/packages $(ARGS)

faults: $(VENV)/.installed ## Break network, pooler, servers and processes (an hour; FAULTS=short: minutes)
	@$(if $(PGBOUNCER),true,$(FUZZED) $(BIN)/python -m pytest -n $(if $(SHORT),2,0) tests/faults tests/idioms/test_fuzz.py $(ARGS))
	@$(if $(PGBOUNCER)$(if $(SHORT),,long),PGBOUNCER=$(or $(PGBOUNCER),newest) $(FUZZED) $(BIN)/python -m pytest -n 0 -k "not direct" $(POOLED) $(ARGS),true)
	@$(if $(SHORT),true,$(BIN)/python -m tests.faults.promises_page)

sqlalchemy-suite: $(VENV)/.installed ## Run SQLAlchemy's own tests with its dialect and with ours (an hour; ARGS="async test/engine": a part)
	@exec $(BIN)/python -m tests.onetrip.dialect $(ARGS)

coverage: $(VENV)/.installed ## Measure what the suite runs of api and lib, into build/coverage
	@$(BIN)/python -m pip install --quiet --group coverage
	@rm -rf build/coverage && mkdir -p build/coverage
	@-$(BIN)/python -m coverage run -m pytest $(UNMEASURED) $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage json --quiet -o build/coverage/report.json
	@$(BIN)/python -m coverage html --quiet --directory build/coverage/html
	@$(BIN)/python -m coverage report --show-missing --skip-covered | tee build/coverage/report.txt
	@$(BIN)/python -m tests.faults.promises_page

audit: $(VENV)/.installed ## Ask for known weaknesses of what is pinned, and list its licences
	@$(BIN)/python -m pip install --quiet --group audit
	@exec $(BIN)/python -m deploy.audit

bench: $(VENV)/.installed ## Measure everything beside other designs into docs/benchmarks (some forty minutes; ARGS=latency: a part)
	@$(BIN)/python -m pip install --quiet --group bench
	@exec $(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(VENV)/.installed ## The same with few repetitions, into build/benchmarks (three minutes)
	@$(BIN)/python -m pip install --quiet --group bench
	@exec $(BIN)/python -m benchmarks --quick $(ARGS)

pictures: $(VENV)/.installed ## Take the README's pictures anew: make dev in a terminal, /status in a browser
	@exec $(BIN)/python -m tests.dev.pictures

new: ## Turn this clone into an application of your own: NAME=my-app (EXAMPLE=keep, LAYER=pip)
	@$(PYTHON) -m dev.new "$(NAME)" --example "$(EXAMPLE)" --layer "$(LAYER)"

clean: ## Remove what was installed and built; the development data in .postgres stays
	rm -rf $(VENV) .tools build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed. Install it, or name it: make PYTHON=python3.13 ..."; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version), and installing the pinned packages (under a minute)"
	@if command -v uv > /dev/null; then $(call WITH_UV); else $(call WITH_PIP); fi
	@touch $@
