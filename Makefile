# `make quickstart` and `make test` do everything on a fresh machine: system packages where allowed, a virtual environment
# in .venv, the native build. Both are safe to repeat and quick the second time.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
# Needed to build FFCV, the loader of .beton files; all else works without.
FFCV_PACKAGES := libopencv-dev libturbojpeg0-dev pkg-config
# Needed by popnet itself: a compiler; by its real-data examples: Fashion-MNIST, and a text of the treebank's size.
SYSTEM_PACKAGES := g++ make python3-venv python3-dev dataset-fashion-mnist bible-kjv $(FFCV_PACKAGES)
# Needed by tests alone, which are skipped without: reports in a browser, and through LaTeX.
TEST_PACKAGES := chromium texlive-latex-base texlive-latex-recommended
BUILD_PACKAGES := "setuptools>=77" wheel pybind11 cmake ninja
SOURCES := setup.py CMakeLists.txt $(shell find csrc -type f 2>/dev/null)
NATIVE_FILES := find csrc tests/native -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'

# On a CUDA machine, with the Python that holds PyTorch there; nothing is downloaded or set up. Wheels in .whl/ that it
# lacks are unpacked below build/. Without a GPU the same steps run as far as they go, in miniature, and say what was not
# measured. Results go into the folder $OUT. GPU_CHECK: options of gpu_check.py, such as "--steps build twins".
GPU_PY ?= $(if $(wildcard $(PY)),$(PY),python3)
GPU_MINUTES ?= 8
GPU_CHECK ?=
GPU_RESULTS := benchmarks/results
GPU_NAME := import torch; print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU")
# What a CUDA machine with PyTorch lacks, at the tested versions; the last two, which the build needs, may be too old there.
GPU_WHEELS := pydantic pydantic-core annotated-types typing-inspection typing-extensions omegaconf pybind11 setuptools
GPU_PLATFORM := --python-version 3.12 --implementation cp $(addprefix --platform ,manylinux_2_28_x86_64 \
    manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux1_x86_64 any)

.PHONY: gpu-check gpu-build gpu-bench gpu-wheels help setup system quickstart test test-slow coverage lint format docs clean

help:
	@echo "make quickstart   set up, then train the quickstart's populations and print their table"
	@echo "make test         set up, then run the tests"
	@echo "make test-slow    the tests that take minutes"
	@echo "make coverage     the tests of both kinds, and which lines of popnet they do not run"
	@echo "make lint         ruff, format check, mypy, clang-format"
	@echo "make docs         the documentation as a site, in build/site"
	@echo "make format       reformat Python and C++"
	@echo "make setup        set up only"
	@echo "make gpu-check    on a CUDA machine, without network: build, first facts, the sanitizer, the tests that need a GPU"
	@echo "make gpu-bench    the GPU benchmark, row by row: goes on where it was, GPU_MINUTES=$(GPU_MINUTES) a call"
	@echo "make gpu-wheels   the Python packages that such a machine lacks, into .whl/, to go along"
	@echo "make clean        remove what was built (.venv and runs stay)"

setup: $(VENV)/.native

# $(call install,PACKAGES): what is missing of them is installed where apt-get may be used, and named otherwise.
define install
	@mkdir -p $(VENV)
	@missing=""; \
	if ! command -v dpkg-query >/dev/null; then \
	    echo "Not a Debian-like system, so these are left to you where they are missing: $(1)"; \
	    touch $@; exit 0; \
	fi; \
	for package in $(1); do \
	    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q "ok installed" || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run="sudo -n"; else run="none"; fi; \
	    if [ "$$run" = none ]; then \
	        echo "Not root, so these system packages are left out:$$missing"; \
	        echo "To have them: sudo apt-get install$$missing"; \
	    else \
	        echo "Installing system packages:$$missing"; \
	        ($$run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$run apt-get install -y -qq --no-install-recommends $$missing >/dev/null) \
	            || echo "apt-get could not install:$$missing (going on without)"; \
	    fi; \
	fi; \
	touch $@
endef

$(VENV)/.system: Makefile
	$(call install,$(SYSTEM_PACKAGES))

$(VENV)/.test-system: Makefile
	$(call install,$(TEST_PACKAGES))

$(VENV)/.packages: pyproject.toml constraints.txt | $(VENV)/.system
	@python=""; \
	for candidate in $${PYTHON:-python3 python3.13 python3.12 python3.11}; do \
	    if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "popnet needs Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/python3"; exit 1; fi; \
	[ -x $(PY) ] || $$python -m venv $(VENV)
	@echo "Installing Python packages (PyTorch is large; a few minutes the first time)"
	@$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt $(BUILD_PACKAGES)
	@$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[dev]"
	@if pkg-config --exists opencv4 libturbojpeg 2>/dev/null; then \
	    $(PY) -m pip install -q --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[ffcv]"; \
	else echo "FFCV is left out, for lack of the system packages $(FFCV_PACKAGES): install them and run make setup again"; fi
	@touch $@

$(VENV)/.native: $(VENV)/.packages $(SOURCES)
	@echo "Building the native code"
	@$(PY) setup.py -q build_ext --inplace >/dev/null
	@touch $@

quickstart: setup
	@$(PY) -m popnet.run experiments/quickstart.yaml

test: setup $(VENV)/.test-system
	@$(PY) -m pytest

test-slow: setup
	@$(PY) -m pytest -m slow

# What only a GPU runs is left out, by name, in pyproject.toml.
coverage: setup $(VENV)/.test-system
	@mkdir -p build/coverage && $(PY) -m coverage erase
	@$(PY) -m coverage run -m pytest -m "not gpu"
	@$(PY) -m coverage combine -q && $(PY) -m coverage report

lint: setup
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@if command -v $(VENV)/bin/clang-format >/dev/null; then $(NATIVE_FILES) | xargs $(VENV)/bin/clang-format --dry-run --Werror; fi

format: setup
	@$(VENV)/bin/ruff check --fix-only -q . && $(VENV)/bin/ruff format -q .
	@$(NATIVE_FILES) | xargs $(VENV)/bin/clang-format -i

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build -q --strict
	@echo "build/site/index.html"

# For this machine's GPU alone, which is quicker than all architectures. A compiler's error is shown.
gpu-build:
	@OUT=build/gpu-build $(GPU_PY) tests/native/gpu_check.py --steps wheels build

gpu-check:
	@$(GPU_PY) tests/native/gpu_check.py $(GPU_CHECK)

# The results stand in $OUT, and those of a device also in benchmarks/results; the newer file is gone on from.
gpu-bench:
	@$(MAKE) -s gpu-build GPU_PY=$(GPU_PY); \
	wheels=$$($(GPU_PY) tests/native/carried_wheels.py); \
	export PYTHONPATH="$(CURDIR):$$wheels$${PYTHONPATH:+:$$PYTHONPATH}"; \
	out="$${OUT:-build/first-light}"; mkdir -p "$$out"; \
	name=$$($(GPU_PY) -c '$(GPU_NAME)' | tr 'A-Z ' 'a-z-'); found="$$out/$$name.json"; where="--device cuda"; \
	if [ "$$name" = no-gpu ]; then where="--tiny --device cpu"; \
	else \
	    kept="$(GPU_RESULTS)/$$name.json"; \
	    if [ -e "$$kept" ]; then cp -pu "$$kept" "$$found"; fi; \
	    trap 'if [ -e "$$found" ]; then cp -pu "$$found" "$$kept"; fi' EXIT; \
	fi; \
	$(GPU_PY) benchmarks/trainer_gpu.py $$where --json "$$found" --seconds $$((60 * $(GPU_MINUTES) - SECONDS)); \
	$(GPU_PY) benchmarks/determinism.py $$where --json "$$found" --seconds $$((60 * $(GPU_MINUTES) - SECONDS - 60))

gpu-wheels:
	@rm -rf .whl
	@$(GPU_PY) -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: $(GPU_PLATFORM) -d .whl \
	    $(foreach name,$(GPU_WHEELS),"$(shell grep -iE '^$(subst -,[-_],$(name))==' constraints.txt)")
	@ls .whl

clean:
	rm -rf build dist *.egg-info popnet/*.so .pytest_cache .mypy_cache .ruff_cache $(VENV)/.native
