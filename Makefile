# Thin on purpose: each target is a line or two. The environment lives in .venv and is made on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Commands of ours start anew many times: where the environment forbids it, compiled code is kept all the same.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: install demo test test-all lint zoo-check zoo-full tables reports docs bench clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $@

demo: install  ## evaluate zoo models on shipped images and sounds and write the pages
	$(BIN)/robustgeom evaluate speech-cochcnn-standard --suite audio-snr --n 40 --eps 40dB
	$(BIN)/robustgeom evaluate fmnist-cnn-standard fmnist-cnn-pgd-at fmnist-cnn-gaussian --suite quick-linf

test: install  ## everything that CI tests
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test-all: install  ## also the long ones: all golden data, retraining
	$(BIN)/pytest -n 2 --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

zoo-check: install  ## every model reproduces its expected.json
	$(BIN)/pytest -n 2 tests/content -m "slow or not slow" -k "reproduces or folder"

zoo-full: install  ## every figure on the cards, measured again: hours
	$(BIN)/pytest -m slow tests/content/test_zoo_figures.py

tables: install  ## write the README tables of attacks/, zoo/ and reports/ again
	$(BIN)/python -m robustgeom.report.readme

reports: install  ## write every page in reports/ and their index again, from their records
	$(BIN)/robustgeom report --again reports

docs:  ## the site in docs/_build, in an environment of its own; a warning stops it
	test -d .venv-docs || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install -q --disable-pip-version-check -r docs/requirements.txt
	.venv-docs/bin/sphinx-build -q -W --keep-going -b html docs docs/_build

bench: install  ## speed of PGD and AutoAttack, and strength of all attacks and verdicts on planted defenses, against the peers; fast; checks; what the journal costs; geometry: two hours
	for part in attacks autoattack strength fast checks planted journal geometry training gevb self_supervised graphs cochleagram; do OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$part.py || exit 1; done
