# make app        install what is missing, start Graft and print its address
#                 LAN=1: for everybody with an account on this network, at this host's address
# make test       install what is missing, run the whole suite
# make test-fast  only tests without a browser that train for a few seconds at most
# make check      style, types and the floors of the packages
# make upgrade    install the newest allowed versions; if the suite passes, pin them
# make benchmark  compare with plain Keras code, into docs/benchmarks.md (up to an hour)
# make faults     break runs on purpose and print what happened (three quarters of an hour)
# make clean      delete the virtual environment (never .graft with datasets and runs)

PYTHON ?= python3
PORT ?= 8501
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check -q
# The exact versions that the suite last passed with, for every new installation.
PINNED := -c constraints.txt
# CUDA libraries only where there is an NVIDIA GPU: they are several gigabytes.
GPU := $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU')
# Whole files to each process, in the order of tests/conftest.py: the longest first.
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
.DEFAULT_GOAL := app
.PHONY: app test test-fast check upgrade benchmark faults clean

app: $(VENV)/.app
ifdef LAN
	@exec $(VENV)/bin/python -m pages._gate.lan $(PORT)
else
	@echo "Starting Graft on http://127.0.0.1:$(PORT) (Ctrl-C ends the server; training goes on)"
	@exec $(VENV)/bin/streamlit run app.py --server.port $(PORT) --server.headless true
endif

test: $(VENV)/.test
	$(PYTEST)

test-fast: $(VENV)/.test
	$(PYTEST) -m "not slow and not browser"

check: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

upgrade: $(VENV)/.test
	@$(PIP) install --upgrade -r requirements.txt -r tests/requirements.txt
	$(PYTEST)
	@(head -1 constraints.txt; $(VENV)/bin/python -m pip freeze) > constraints.new && \
	  mv constraints.new constraints.txt

# Needs the packages of the tests: the cost of an open page is measured with a browser.
benchmark: $(VENV)/.test
	@$(VENV)/bin/python -m benchmarks $(OPTIONS)

# The long form of tests/faults; the short one is part of `make test`.
faults: $(VENV)/.test
	@GRAFT_FAULTS_FORM=long $(VENV)/bin/python -m pytest tests/faults -v -s

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Graft needs Python 3.11 or newer; set PYTHON=python3.12 or the like."; exit 1; }
	@echo "Making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); \
	    echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.app: requirements.txt constraints.txt | $(VENV)/bin/python
	@echo "Installing requirements.txt (a minute or two, the first time only)"
	@$(PIP) install $(PINNED) -r requirements.txt
	@if [ "$(GPU)" -gt 0 ]; then echo "NVIDIA GPU found: installing TensorFlow's CUDA libraries"; \
	  $(PIP) install $(PINNED) -r requirements.txt "tensorflow[and-cuda]"; fi
	@touch $@

$(VENV)/.test: tests/requirements.txt $(VENV)/.app
	@echo "Installing tests/requirements.txt"
	@$(PIP) install $(PINNED) -r tests/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV)
