# Everything here works on a machine with git, make and Python >= 3.11; nothing outside .venv is changed.
#   make chat    a terminal chat with the bundled model      make chat ARGS="--conversation work"
#   make test    the test suite                              make test ARGS="tests/rxstream -x"
#   make lint    style, types, import contracts, docs        make format   rewrite the style
#   make bench   measurements                                make bench ARGS="turn"
#   make docs    links and code blocks of README and docs/   make clean    remove .venv and caches

VENV := .venv
BIN := $(VENV)/bin
CREATED := $(VENV)/.created
BASE := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
ARGS ?=
# Two processes, of which each takes whole files: servers and models are set up once in each.
WORKERS ?= --numprocesses 2 --dist loadfile

export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP_INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: chat test lint format bench docs clean
.DEFAULT_GOAL := test

# A half-made .venv (interrupted, or of an older Python that was removed) is repaired, not trusted:
# the stamp is written last. Who comes while another make installs waits, and finds it done.
ifeq ($(origin ALONE),command line)
$(CREATED):
	@echo "Creating $(VENV) with $(ALONE)" >&2 && "$(ALONE)" -m venv $(VENV)
	@touch $@

$(BASE): pyproject.toml constraints.txt | $(CREATED)
	@echo "Installing rxstream (the first time this downloads PyTorch; later calls skip it)" >&2
	@$(PIP_INSTALL) --editable .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(CREATED)
	@echo "Installing rxstream and its development tools (the first time this downloads PyTorch)" >&2
	@$(PIP_INSTALL) --editable ".[dev]"
	@touch $(BASE) $@
else
$(BASE) $(DEV): pyproject.toml constraints.txt
	@python=$$(sh .ci/find-python) && "$$python" .ci/alone.py $(VENV)/.lock $(MAKE) --silent ALONE="$$python" $@
endif

chat: $(BASE)
	@$(BIN)/rxt chat $(ARGS)

test: $(DEV)
	@$(BIN)/python -m pytest $(WORKERS) $(ARGS)

lint: $(DEV)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

format: $(DEV)
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: $(DEV)
	@$(BIN)/python -m benchmarks $(ARGS)

docs: $(DEV)
	@$(BIN)/python -m pytest tests/test_readme.py $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
