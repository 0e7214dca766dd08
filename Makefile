# Each target does its own set-up and is safe to repeat.
VENV ?= .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
# uv does not read PIP_FIND_LINKS: pass it on, so that a local CPU wheel of torch is found where one is offered.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: setup demo test test-unit fuzz lint bench picture clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv $(VENV)
	test -x $(UV) || $(PY) -m pip install --quiet uv
	$(UV) pip install --quiet --compile-bytecode --python $(PY) -c constraints.txt -e ".[release,postgres,demo,dev]"
	touch $@

demo: setup
	$(VENV)/bin/shipway demo

test: setup
	$(PY) -m pytest

test-unit: setup
	$(PY) -m pytest -m "not integration and not e2e"

# Every fault at every effect of every story, and 10,000 random schedules of faults.
fuzz: setup
	SHIPWAY_FUZZ=1 $(PY) -m pytest tests/faults --timeout 7200

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
	rm -rf $(VENV) .shipway
