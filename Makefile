# `make demo` runs the main job on a fresh machine, `make test` the fast tests, `make test-all` every test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OPENAPI ?= ../shared/aihub-api/openapi.json
# The supported versions of Python.
PYTHONS = 3.11 3.12 3.13 3.14
# Which tests `make test-all` runs: all, or the rest, which `make test` leaves out, but for what only `make torture` runs.
CASES ?= all
PYTEST = AIHUB_OPENAPI=$(OPENAPI) $(BIN)/python -m pytest -n auto --dist worksteal --durations 15 --durations-min 1

# Each test process would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all check contract docs bench torture site pictures dist audit clean

demo: $(VENV)/.installed
	$(BIN)/runner apply specs/invoices.aihub.toml --fake --yes
	$(BIN)/runner status specs/invoices.aihub.toml --fake

test: $(VENV)/.compiled
	$(PYTEST) --cases fast

test-all: $(VENV)/.compiled
	$(PYTEST) --cases $(CASES)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	for version in $(PYTHONS); do $(BIN)/mypy --python-version $$version || exit 1; done
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile; else echo "Dockerfile: not checked, hadolint is missing"; fi
	$(BIN)/python -m pytest tests/test_layout.py

contract: $(VENV)/.installed-dev
	@test -f "$(OPENAPI)" || { echo "error: $(OPENAPI): no such file; pass OPENAPI=path"; exit 2; }
	AIHUB_OPENAPI=$(OPENAPI) AIHUB_EXAMPLES=100 $(BIN)/python -m pytest -n auto tests/fake tests/e2e

docs: $(VENV)/.installed
	$(BIN)/python -m aihub_runner.spec.reference > docs/reference.md
	$(BIN)/python -m aihub_runner.cli.manual > docs/cli.md
	$(BIN)/python -m aihub_runner.spec.schema > specs/aihub.schema.json
	$(BIN)/python -m fake_aihub.docs.pages docs

# One comparison, as `make bench CASE=A ROUNDS=5`, or every benchmark.
bench: $(VENV)/.installed-dev
ifdef CASE
	$(BIN)/python tests/bench/bench_speed.py $(CASE) $(ROUNDS)
else
	$(BIN)/python tests/bench/bench_fake.py
	$(BIN)/python tests/bench/bench_load.py
	$(BIN)/python tests/bench/bench_report.py
	$(BIN)/python tests/bench/bench_results.py
	$(BIN)/python tests/bench/bench_speed.py
endif

# The matrices of which `CASES=rest` runs a sample.
LARGE = $(addprefix tests/e2e/test_,batch_clones.py batch_id_broken.py batch_keep_broken.py clones_meanwhile.py crashes.py \
  crashes_of_inputs.py destroy_broken.py faults.py forget.py merged_lock.py paid_once_refused.py plain_hub.py)

torture: $(VENV)/.installed-dev
	$(PYTEST) --cases all $(LARGE)
	$(PYTEST) --cases all -m torture
	PYTHONPATH=tests $(BIN)/python tests/torture/pairs.py
	PYTHONPATH=tests $(BIN)/python tests/torture/stores.py
	PYTHONPATH=tests $(BIN)/python tests/torture/cluster.py
	AIHUB_KILLS=200 AIHUB_HISTORIES=200 $(PYTEST) tests/e2e/test_model.py tests/e2e/test_model_deleted.py \
	  tests/e2e/test_hard_times.py -k 'histories or random_moments'

# Build the documentation site, build/site, with the files that its pages link to.
site: $(VENV)/.installed-dev
	rm -rf build/site
	$(BIN)/zensical build --strict --clean
	mkdir -p build/site/fake_server/fake_aihub
	cp -r specs build/site/specs && rm -rf build/site/specs/*.fake
	cp fake_server/fake_aihub/behaviours.csv build/site/fake_server/fake_aihub/
	printf '<!doctype html><meta charset="utf-8"><title>aihub-runner</title>\n<meta http-equiv="refresh" content="0; url=docs/index.html">\n' > build/site/index.html

# Screenshots of the report and of the fake's page, and a session on a terminal, from a real run.
pictures: $(VENV)/.installed-dev
	PYTHONPATH=tests $(BIN)/python tests/pictures/take.py docs/pictures

# Build what one publishes, install the wheel alone, and run the demo from another folder.
dist: $(VENV)/.installed
	rm -rf dist
	$(PIP) install --quiet --group dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	rm -rf build/empty && $(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cp -r specs build/empty/specs && rm -rf build/empty/specs/*.fake
	cd build/empty && bin/runner apply specs/invoices.aihub.toml --fake --yes && bin/fake-aihub --help >help.txt

# Report known vulnerabilities of what is installed. Not a gate: most need an update elsewhere.
audit: $(VENV)/.installed
	$(PIP) install --quiet --group audit
	-$(BIN)/python .ci/audit.py

clean:
	rm -rf $(VENV) build dist *.egg-info specs/*.fake

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python 3.11 or newer is needed; pass PYTHON=python3.12, for instance"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "error: the venv module is missing; on Debian or Ubuntu: apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(PIP) install --quiet --upgrade 'pip>=25.1'  # the first with --group
	PYTHONWARNINGS=ignore $(PIP) install --quiet -e .  # else setuptools fills the screen
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	PYTHONWARNINGS=ignore $(PIP) install --quiet -e . --group dev
	touch $@

# Compile all modules once. Otherwise each process that runs tests compiles all of them, at the same time.
$(VENV)/.compiled: $(VENV)/.installed-dev
	$(BIN)/python -m compileall -q runner fake_server
	@for some in tests/unit "tests/e2e tests/fake"; do $(BIN)/python -m pytest --collect-only -qq $$some & done >$@ 2>&1; wait
