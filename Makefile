# make setup   a virtual environment with everything     make demo   a call from end to end, offline
# make test    the tests                                 make help   the rest
# Needs Python 3.11 or newer with its headers, a C compiler and make; PYTHON=... chooses the interpreter.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
CODEC_SOURCES := $(wildcard codec_c/*.c codec_c/*.h codec_c/*.txt)
FUZZ_SECONDS ?= 60
SANITIZE := -std=c11 -O1 -g -Wall -Wextra -Wconversion -Werror -fsanitize=address,undefined -fno-sanitize-recover=all

.PHONY: help setup demo test lint format types sanitize fuzz clean

help:  ## list what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 18

setup: $(STAMP)  ## create .venv, compile the codec, install the engine for development

$(STAMP): pyproject.toml build_codec.py setup_environment.sh $(CODEC_SOURCES)
	@PYTHON="$(PYTHON)" bash setup_environment.sh "$(VENV)"
	@touch $@

demo: $(STAMP)  ## hold a simulated call and report on it
	@$(BIN)/media-engine demo

test: $(STAMP)  ## run the tests
	@$(BIN)/python -m pytest -q

lint: $(STAMP)  ## ruff: rules and layout
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

format: $(STAMP)  ## let ruff lay out the Python files
	@$(BIN)/ruff format .

types: $(STAMP)  ## mypy, strict, on the engine
	@$(BIN)/mypy

sanitize:  ## run the C tests under the address and undefined-behaviour sanitizers
	@mkdir -p build
	for test in tests/c/*_test.c; do \
	    program=build/$$(basename $$test .c); \
	    $(CC) $(SANITIZE) -Icodec_c -o $$program $$test codec_c/*.c -lm; \
	    $$program; \
	done

fuzz:  ## look for faults of the hot path for FUZZ_SECONDS, by libFuzzer where there is clang
	@mkdir -p build/fuzz_corpus
	$(CC) $(SANITIZE) -Icodec_c -o build/fuzz_leg tests/c/fuzz_leg.c codec_c/*.c -lm
	if command -v clang >/dev/null; then \
	    build/fuzz_leg --corpus build/fuzz_corpus; \
	    clang $(SANITIZE) -fsanitize=fuzzer -DLIBFUZZER -Icodec_c -o build/fuzz_leg_libfuzzer tests/c/fuzz_leg.c codec_c/*.c -lm; \
	    build/fuzz_leg_libfuzzer -max_total_time=$(FUZZ_SECONDS) -max_len=8192 build/fuzz_corpus; \
	else \
	    build/fuzz_leg --seconds $(FUZZ_SECONDS) $$RANDOM; \
	fi

clean:  ## remove what was made, the virtual environment too
	rm -rf $(VENV) build dist *.egg-info engine/*.so demo-output
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
