# Four words: setup, check, test, demo. Everything lives in .venv; nothing outside the clone is touched.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO ?= runs/demo
RUNS ?= runs
WORKERS ?= 2

.PHONY: setup demo test check app screenshots proof bench bench-app lock reference clean

setup: $(STAMP)

$(STAMP): requirements.lock bootstrap.lock pyproject.toml packages.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "medssl needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r bootstrap.lock
	sh packages.sh
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

demo: $(STAMP)  ## the main job on sample_data/
	$(BIN)/medssl demo --out $(DEMO)

check: $(STAMP)  ## about a minute: format, lint, types, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/oracle tests/contract tests/unit tests/test_house.py -m "not slow and not real"

test: $(STAMP)  ## everything but the long proofs
	sh packages.sh packages-test.txt
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not browser" -n $(WORKERS) --dist loadfile
	$(BIN)/pytest -m browser tests/app

proof: $(STAMP)  ## the long proofs in full: mutations, kills, simulations
	MEDSSL_PROOF=1 $(BIN)/pytest

app: $(STAMP)
	$(BIN)/medssl app $(RUNS)

screenshots: $(STAMP)  ## docs/screenshots/ anew, from what make demo left in $(DEMO)
	$(BIN)/python benchmarks/screenshots.py $(DEMO)

bench-app: $(STAMP)  ## the review app in a real browser, on what make demo left in $(DEMO)
	$(BIN)/python benchmarks/review_app.py $(DEMO)

bench: $(STAMP)  ## ratios within one run; half an hour on a quiet machine
	$(BIN)/python benchmarks/throughput.py --whole
	$(BIN)/python benchmarks/stock_pipeline.py
	$(BIN)/python benchmarks/views.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/ranks.py
	$(BIN)/python benchmarks/collapse.py
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/malformed.py

lock:  ## resolve the dependencies anew; run by hand, reviewed like code
	$(BIN)/uv pip compile pyproject.toml --extra app --extra gdcm --extra cluster --extra report --extra onnx --extra mlflow --extra wandb --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements.lock

reference: $(STAMP)  ## write configs/REFERENCE.md anew
	$(BIN)/python -c "from pathlib import Path; from medssl import reference; Path('configs/REFERENCE.md').write_text(reference.markdown())"

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
