# Everything runs in .venv, which is made once and again only when the lock, the metadata, the folder or
# the Python version changes.

PYTHON ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
OMP_NUM_THREADS ?= 1
# Where this is set, as in many containers, every process compiles torch, transformers and vLLM anew: 5 seconds each.
unexport PYTHONDONTWRITEBYTECODE
LOCK := locks/cpu-py311.txt
ENGINES_LOCK := locks/cpu-py311-engines.txt
DOCS_LOCK := locks/cpu-py311-docs.txt
NEWEST_LOCK := locks/newest-py311.txt
OPENRLHF_LOCK := locks/openrlhf.txt
VENV_PYTHON := .venv/bin/python
KEY := $(shell { cat $(LOCK) setup.cfg pyproject.toml; pwd; $(PYTHON) -V; } 2>&1 | cksum | cut -d ' ' -f 1)
STAMP := .venv/installed-$(KEY)
ENGINES_STAMP := $(STAMP)-$(shell cksum < $(ENGINES_LOCK) | cut -d ' ' -f 1)-engines
NEWEST_STAMP := .venv-newest/installed-$(shell { cat $(NEWEST_LOCK) setup.cfg; pwd; } | cksum | cut -d ' ' -f 1)
DOCS_STAMP := $(STAMP)-$(shell cksum < $(DOCS_LOCK) | cut -d ' ' -f 1)-docs

OPENRLHF_STAMP := .openrlhf-env/installed-$(shell { cat $(OPENRLHF_LOCK) setup.cfg; pwd; } | cksum | cut -d ' ' -f 1)

DIR ?= models/smollm2
DATA ?= $(or $(IXT_RL_DATA),../shared/data)
# Run files on a real model, in this order, with the folders they write.
REAL := $(foreach name,ixt sip ixt-text intro,$(wildcard configs/real/$(name).yaml))
REAL_RUNS := $(REAL:configs/real/%.yaml=runs/real-%)
HALF = $(shell $(PYTHON) -c 'import os; print(max(1, len(os.sched_getaffinity(0)) // 2 if hasattr(os, "sched_getaffinity") else os.cpu_count() // 2))')

.PHONY: help setup setup-engines setup-docs demo demo-ixt demo-seeds demo-real model bench docs openrlhf-env test test-all test-newest check format house clean

help:
	@echo 'make demo        set up .venv, pretrain a tiny model and improve it by RL: a report in minutes'
	@echo 'make demo-seeds  the same with three seeds (what one seed already ran is kept): means and spreads'
	@echo 'make demo-ixt    pretrain with and without feedback on documents of mixed quality: ten arms, a quarter of an hour'
	@echo 'make demo-real   IXT, SIP and InTRO on a real small model and real text, half an hour: DIR=... (model), DATA=... (files)'
	@echo 'make model       a real small model to start from: SmolLM2-135M-Instruct, as models/smollm2 (DIR=...)'
	@echo 'make bench       time and memory of training, sampling and kernels beside TRL, vLLM and plain code: twelve minutes, one table'
	@echo 'make docs        build the site of docs/ into build/docs/site, and check every link'
	@echo 'make test        set up .venv, engines (vLLM, Ray, DeepSpeed) included, and run the tests (ARGS="-m '"'not slow'"'" for the fast ones)'
	@echo 'make test-all    and those of minutes, whose kind another test covers'
	@echo 'make test-newest the fast ones with the newest torch, transformers and datasets, in .venv-newest'
	@echo 'make setup-engines  .venv with the engines, for the commands that use them'
	@echo 'make setup-docs  .venv with what builds the site and runs examples/notebooks'
	@echo 'make openrlhf-env  .openrlhf-env with OpenRLHF and its pins, for stages with backend: openrlhf (CPU; 3 GB)'
	@echo 'make check       ruff, format check, type check'
	@echo 'make format      rewrite the code as `make check` wants it'
	@echo 'make house       folders, what they import from each other, circles'
	@echo 'make clean       remove what tools left behind; keeps .venv, .venv-newest, runs and cached models'
	@echo
	@echo 'PYTHON=python3.12 chooses the Python for .venv; ARGS passes on key=value (demo) or pytest options (test)'

setup: $(STAMP)

# The lock is complete, so pip resolves nothing. torch comes first and from its own index, because on
# Linux PyPI has the CUDA build, which --no-deps would leave without its libraries. Where that index
# cannot be reached, the build at hand gets its libraries by an ordinary installation.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo '$(PYTHON) is missing or older than Python 3.11; choose another: make PYTHON=python3.11 ...' >&2; exit 1; }
	@test "$$($(VENV_PYTHON) -c 'import pip, sys; print(sys.version)' 2>/dev/null)" = \
		"$$($(PYTHON) -c 'import sys; print(sys.version)')" || $(PYTHON) -m venv --clear .venv
	$(VENV_PYTHON) -m pip install --no-deps --no-compile --retries 2 \
		--extra-index-url $(TORCH_INDEX) "$$(grep '^torch==' $(LOCK))"
	$(VENV_PYTHON) -m pip install --no-deps --no-compile -r $(LOCK)
	@$(VENV_PYTHON) -c 'import torch' 2>/dev/null || $(VENV_PYTHON) -m pip install "$$(grep '^torch==' $(LOCK))"
	$(VENV_PYTHON) -m pip install --no-deps --no-build-isolation --no-index -e .
	@rm -f .venv/installed-*
	@touch $@

# What tests and the engines vllm and ray-vllm need beyond the core: 2.3 GB that a first look does not ask for.
setup-engines: $(ENGINES_STAMP)

$(ENGINES_STAMP): $(STAMP)
	$(VENV_PYTHON) -m pip install --no-deps --no-compile -r $(ENGINES_LOCK)
	@touch $@

# The site's generator and marimo, for the notebooks: pure additions, which --no-deps keeps from moving torch.
setup-docs: $(DOCS_STAMP)

$(DOCS_STAMP): $(STAMP)
	$(VENV_PYTHON) -m pip install --no-deps --no-compile -r $(DOCS_LOCK)
	@touch $@

# OpenRLHF pins transformers, Ray and DeepSpeed: its environment is beside .venv. On a GPU see docs/openrlhf.md.
openrlhf-env: $(OPENRLHF_STAMP)

$(OPENRLHF_STAMP):
	$(PYTHON) -m venv --clear .openrlhf-env
	.openrlhf-env/bin/python -m pip install --no-deps --retries 2 --extra-index-url $(TORCH_INDEX) "$$(grep '^torch==' $(OPENRLHF_LOCK))"
	.openrlhf-env/bin/python -m pip install --no-deps -r $(OPENRLHF_LOCK)
	.openrlhf-env/bin/python -m pip install --no-deps --no-build-isolation --no-index -e .
	@touch $@

docs: $(DOCS_STAMP)
	$(VENV_PYTHON) -m docs.site.build

demo: $(STAMP)
	$(VENV_PYTHON) -m ixt_rl run configs/demo/addition.yaml $(ARGS)

demo-ixt: $(STAMP)
	$(VENV_PYTHON) -m ixt_rl run configs/ixt/chain.yaml $(ARGS)

demo-seeds: $(STAMP)
	$(VENV_PYTHON) -m ixt_rl run configs/demo/addition.yaml 'seeds=[1, 2, 3]' $(ARGS)

# Run files name their files as data/NAME: a link to DATA, unless there is a folder of that name.
demo-real: $(STAMP)
	@test -d data -a ! -L data || ln -sfn $(abspath $(DATA)) data
	@test ! -e data/wiki.jsonl || $(VENV_PYTHON) examples/spoiled_pairs.py data/wiki.jsonl runs
	@$(VENV_PYTHON) -m ixt_rl check $(REAL)
	@test -e $(DIR)/config.json || $(VENV_PYTHON) -m ixt_rl model smollm2 $(DIR)
	@$(MAKE) --no-print-directory -j 2 $(REAL:configs/real/%.yaml=real-%)
	$(VENV_PYTHON) -m ixt_rl report $(REAL_RUNS) --out runs/real.html

# Two at a time, each on half of the cores: so small a model gains a fifth from a second core. Ctrl-C is for the run alone,
# so that what it says then is shown as well.
# Freed memory is kept, in large pages: glibc gives blocks of megabytes back and asks for new ones at every product, a tenth
# of the time.
real-%: export MALLOC_MMAP_MAX_ := 0
real-%: export MALLOC_TRIM_THRESHOLD_ := 100000000000
real-%: export THP_MEM_ALLOC_ENABLE := 1
real-%: SHELL := bash
real-%: .SHELLFLAGS := -o pipefail -c
real-%:
	@$(VENV_PYTHON) -m ixt_rl run configs/real/$*.yaml model.path=$(DIR) threads=$(HALF) $(ARGS) 2>&1 | { trap '' INT; exec sed -u 's/^/$*: /'; }

model: $(STAMP)
	$(VENV_PYTHON) -m ixt_rl model smollm2 $(DIR)

# Short forms of benchmarks/*.py on a real small model. vLLM is measured where `make setup-engines` has installed it.
bench: $(STAMP)
	@test -e $(DIR)/config.json || $(VENV_PYTHON) -m ixt_rl model smollm2 $(DIR)
	$(VENV_PYTHON) benchmarks/bench.py --model $(DIR) $(ARGS)

# Three processes for two cores, as many tests wait for what they start; one of them has all tests that start a pool of
# engines (tests/conftest.py). ARGS="-n 0" for one.
# One thread: the models of the tests are too small to gain from more. No test needs the network.
test: WHICH := -m 'not long'
test test-all: $(ENGINES_STAMP) $(DOCS_STAMP)
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) HF_HUB_OFFLINE=1 $(VENV_PYTHON) -m pytest -n 3 --no-loadscope-reorder --session-timeout=4500 --durations=60 --durations-min=5 $(WHICH) $(ARGS)

# docs/versions.md says what is known of it.
test-newest: $(NEWEST_STAMP)
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) HF_HUB_OFFLINE=1 .venv-newest/bin/python -m pytest -n 2 -m 'not slow' --session-timeout=4500 $(ARGS)

$(NEWEST_STAMP):
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --no-compile --retries 2 --extra-index-url $(TORCH_INDEX) -r $(NEWEST_LOCK)
	.venv-newest/bin/python -m pip install --no-deps --no-build-isolation --no-index -e .
	@touch $@

check: $(ENGINES_STAMP) .typing
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	MYPYPATH=.typing $(VENV_PYTHON) -m mypy -p ixt_rl

format: $(STAMP)
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .

# Type checkers do not follow the mapping in setup.cfg: show them the package as a wheel would have it.
.PHONY: .typing
.typing:
	@rm -rf .typing && mkdir -p .typing/ixt_rl
	@cd .typing/ixt_rl && ln -s ../../ixt_rl/* . && ln -s ../../trainers ../../rewards .

house:
	@$(or $(wildcard $(VENV_PYTHON)),$(PYTHON)) -m tests.house

clean:
	rm -rf .typing .pytest_cache .ruff_cache .mypy_cache build dist *.egg-info
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
