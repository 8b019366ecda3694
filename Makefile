# make demo    the main job on a real recording
# make test    everything; make check: lint, types and unit tests only
# make firmware    the firmware for AVR, with Debian's compiler
# A fresh Debian machine needs python3.11, make and a compiler.

PYTHON ?= python3.11
VENV := .venv
OLD_VENV := .venv-tflite-runtime
AARCH64 := build/aarch64
BIN := $(VENV)/bin
# The lock: what was tested together.
PIP_INSTALL = $(1)/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check lint types unit firmware format clean

demo: $(VENV)/.for-demo
	$(BIN)/edgelstm demo --json edgelstm-demo.json --plot edgelstm-demo.png

test: lint types $(OLD_VENV)/.ready
	@./tools/debian-packages tests/debian-packages.txt
	@$(MAKE) --no-print-directory $(AARCH64)/.ready || \
		echo "The tests on an emulated Raspberry Pi will be skipped; see above."
	@# Three at a time, because many wait; file by file: tests of a file share what they make. In
	@# order: by itself xdist begins with the files of most tests, and the longest would come last.
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

check: lint types unit

lint: $(VENV)/.for-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(VENV)/.for-dev
	$(BIN)/mypy

unit: $(VENV)/.for-dev
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

# For an Arduino Uno, with how much flash and RAM it takes.
firmware:
	@$(MAKE) --no-print-directory -C firmware_bridge/firmware

format: $(VENV)/.for-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) $(OLD_VENV) build dist edgelstm-demo edgelstm-demo.json edgelstm-demo.png

$(VENV)/.made $(OLD_VENV)/.made:
	@./tools/make-venv "$(PYTHON)" "$(@D)"
	@touch $@

$(VENV)/.for-demo: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing TensorFlow and what else the demo needs; about a minute at first."
	$(call PIP_INSTALL,$(VENV)) -c constraints.txt -e '.[quantize,plot]'
	@touch $@

$(VENV)/.for-dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing TensorFlow, the tests and the linters; about a minute at first."
	$(call PIP_INSTALL,$(VENV)) -c constraints.txt -e '.[quantize,parquet,plot,service,sign,fleet,peers,dev]'
	@touch $@ $(VENV)/.for-demo

$(AARCH64)/.ready: $(VENV)/.for-dev tools/aarch64-root constraints.txt \
		tests/requirements-tflite-runtime.txt
	@echo "Fetching what a 64-bit Raspberry Pi has, to test on an emulated one."
	@./tools/aarch64-root $(BIN)/python $(AARCH64)
	@touch $@

# tflite-runtime needs numpy 1, so it lives apart; as on a 32-bit Pi, ai-edge-litert is not there.
$(OLD_VENV)/.ready: $(OLD_VENV)/.made pyproject.toml tests/requirements-tflite-runtime.txt
	$(call PIP_INSTALL,$(OLD_VENV)) -r tests/requirements-tflite-runtime.txt
	$(call PIP_INSTALL,$(OLD_VENV)) --no-deps -e .
	@touch $@
