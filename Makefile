# The two commands of a fresh machine are `make run` and `make test`; each makes .venv first. Settings, on the command line:
#   PYTHON=python3.13       which Python makes .venv (3.11 or newer)
#   TORCH_INDEX=URL         where torch comes from, e.g. https://download.pytorch.org/whl/cu128 (see tools/make_venv.sh)
#   ARGS="-k tiles -x"      what pytest is given besides
#   PROCESSES=4             how many processes share the tests, about 2 GB each; 0 for a debugger
PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=
PROCESSES ?= 2
BIN := .venv/bin
READY := .venv/installed
MAKEFLAGS += --no-print-directory
export PYTHON TORCH_INDEX

.PHONY: help run test lint format screenshots clean

help:
	@echo 'make run          open napari on a sample image with the dock (without a display: the same loop, headless)'
	@echo 'make test         run the tests under a virtual screen; ARGS="-k name" chooses'
	@echo 'make lint         ruff and mypy'
	@echo 'make format       let ruff lay out the code'
	@echo 'make screenshots  take the pictures of the documentation'
	@echo 'make clean        remove all that make has made, .venv included'

run: $(READY)
	@if [ "$$(uname)" != Linux ] || [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]; then \
		tools/on_screen.sh desktop $(BIN)/napari-unet view; \
	else \
		echo 'There is no display here, so napari cannot open: this runs the same loop headless (napari-unet demo).'; \
		$(BIN)/napari-unet demo; \
	fi

test: $(READY)
	@tools/on_screen.sh virtual $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile $(ARGS)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

screenshots: $(READY)
	@tools/on_screen.sh virtual $(BIN)/python docs/screenshots.py

# A second run finds this file newer than what the installation depends on, and installs nothing.
$(READY): pyproject.toml constraints.txt tools/make_venv.sh
	@tools/make_venv.sh
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
