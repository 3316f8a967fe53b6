# Everything sets itself up: `make demo` and `make test` work on a fresh clone with Python 3.11+, git and make.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo test test-slow lint bench clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -e ".[dev]"
	touch $@

demo: $(VENV)/.installed  ## the main job on scikit-learn's digits: about 3 minutes on 2 cores
	$(PY) cli.py fit --config configs/simclr_digits.yaml

test: $(VENV)/.installed lint
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow" -n 2 --dist loadfile --durations 20

test-slow: $(VENV)/.installed  ## what starts many processes or trains for longer
	OMP_NUM_THREADS=1 $(PY) -m pytest -m slow -n 2 --dist loadfile

lint: $(VENV)/.installed
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

bench: $(VENV)/.installed  ## speed beside peers, needs the extra `bench`
	$(PY) -m pip install --quiet -e ".[bench]"
	$(PY) benchmarks/limits.py
	$(PY) benchmarks/augmentation.py
	$(PY) benchmarks/augmentation.py --size 96
	$(PY) benchmarks/epoch.py
	$(PY) benchmarks/trainer.py
	OMP_NUM_THREADS=1 $(PY) benchmarks/callbacks_cost.py
	$(PY) benchmarks/autoencoder.py
	$(PY) benchmarks/growth.py
	$(PY) benchmarks/start.py
	$(PY) benchmarks/threads.py
	$(PY) benchmarks/nt_xent.py
	$(PY) benchmarks/knn.py
	$(PY) benchmarks/conv.py
	$(PY) benchmarks/galaxies.py
	$(PY) benchmarks/tsne.py
	$(PY) benchmarks/tweets.py

clean:
	rm -rf $(VENV) *.egg-info
