READY := .venv/.ready

.PHONY: help setup demo test check soak lint
help:
	@echo 'make demo [DATA=/my/photos]  pre-train a small CrossCL and fine-tune a detector from it'
	@echo 'make test                    run all tests'
	@echo 'make check                   check the style and run the fast tests'
	@echo 'make soak                    run 2,000 iterations and look for leaks'
	@echo 'make lint                    check format and style'
	@echo 'make setup                   only make .venv, which the others do by themselves'

$(READY): $(wildcard requirements/*.txt) setup.cfg pyproject.toml tools/setup_env.sh
	@tools/setup_env.sh

setup:
	@tools/setup_env.sh

demo: $(READY)
	@.venv/bin/mmcrosscl demo $${DATA:+--data "$$DATA"}

# one more than there are cores, since many tests wait for processes
PYTEST := .venv/bin/python -m pytest --maxschedchunk 1 -n $(shell expr $$(nproc) + 1)

test: $(READY)
	@$(PYTEST)

check: lint
	@$(PYTEST) -m 'not slow and not soak'

soak: $(READY)
	@.venv/bin/python -m pytest -m soak -s

lint: $(READY)
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
