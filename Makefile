# onedl, or openmmlab for OpenMMLab's original packages
STACK ?= onedl
VENV := .venv$(if $(filter openmmlab,$(STACK)),-openmmlab)
READY := $(VENV)/.ready
export STACK

.PHONY: help setup demo test check soak has-gpu test-gpu benchmark-gpu lint docs constraints
help:
	@echo 'make demo [DATA=/my/photos]  pre-train a small CrossCL and fine-tune a detector from it'
	@echo 'make test                    run all tests'
	@echo 'make check                   check the style and run the fast tests'
	@echo 'make soak                    run the long tests: leaks, jobs and studies on two nodes, jobs on two hosts'
	@echo 'make test-gpu                run the tests that need a GPU'
	@echo 'make benchmark-gpu           measure loader, loss, step and communication on a GPU'
	@echo 'make lint                    check format, style and types'
	@echo 'make docs                    build the documentation in docs/_build'
	@echo 'make setup                   create .venv, which the other targets do if it does not exist'
	@echo 'make constraints             write the newest versions to requirements/constraints/'
	@echo 'STACK=openmmlab after any of them uses the original packages, in .venv-openmmlab'

$(READY): $(wildcard requirements/*.txt requirements/constraints/*.txt) setup.cfg pyproject.toml tools/setup_env.sh
	@tools/setup_env.sh

setup:
	@tools/setup_env.sh

demo: $(READY)
	@$(VENV)/bin/mmcrosscl demo $${DATA:+--data "$$DATA"}

# more than the number of cores, because many tests wait for processes
PYTEST := $(VENV)/bin/python -m pytest --maxschedchunk 1 -n $(shell expr $$(nproc) + 2)

test: $(READY)
	@$(PYTEST)

check: lint
	@$(PYTEST) -m 'not slow and not soak'

soak: $(READY)
	@$(VENV)/bin/python -m pytest -m soak -s

has-gpu: $(READY)
	@$(VENV)/bin/python -c \
	  'import sys, torch; torch.cuda.is_available() or sys.exit("error: torch finds no GPU; see mmcrosscl env")'

test-gpu: has-gpu
	@$(VENV)/bin/python -m pytest -m gpu

benchmark-gpu: has-gpu
	@$(VENV)/bin/python tools/benchmark.py all --compile

lint: $(READY)
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy

docs: $(READY)
	@$(VENV)/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo docs/_build/index.html

constraints: $(READY)
	@$(VENV)/bin/python tools/pin_versions.py $(STACK)
