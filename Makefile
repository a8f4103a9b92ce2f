# Every target sets up what it needs. Only Python 3.11+, make and a C compiler have to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2
ARGS ?=
MODELS ?= 300

.PHONY: setup demo test lint faults story models fuzz api mlflow estimators docs lock clean help

help:            ## Show this list
	@grep -E '^[a-z]+: .*##|^[a-z]+:  *##' $(MAKEFILE_LIST) | sed 's/:[^#]*## */\t/'

setup: $(READY)  ## Make the virtual environment in .venv from the hashed lock

# The lock names versions and hashes only; which index serves them is the machine's own setting.
$(READY): requirements/lock.txt requirements/bootstrap.txt pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/lock.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)   ## The whole story on real flights; ARGS=--exit stops by itself
	@$(BIN)/modelyard demo $(ARGS)

lint: $(READY)   ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY) lint  ## All checks and all tests
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

faults: $(READY) ## The long form of the fault tests: 500 kills under load and more, for an hour or longer
	MODELYARD_FAULTS=1 $(BIN)/pytest -rP tests/faults $(ARGS)

story: $(READY)  ## The whole demo as a test: every update ends as it should; takes some minutes
	MODELYARD_DEMO=1 $(BIN)/pytest -rP tests/scenarios/test_demo.py $(ARGS)

models: $(READY) ## 300 models in the memory of a third of them; MODELS=600
	MODELYARD_MODELS=$(MODELS) $(BIN)/pytest -rP tests/scenarios/test_memory_budget.py -k third $(ARGS)

fuzz: $(READY)   ## Fuzz the decoders of all bodies, a minute each; ARGS="--seconds 600 arrow_streams"
	PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

api: $(READY)    ## Try the HTTP routes with what their OpenAPI document allows, a hundred requests each
	MODELYARD_EXAMPLES=100 $(BIN)/pytest tests/scenarios/test_openapi.py $(ARGS)

mlflow: $(READY)  ## The long form of the tests with MLflow: whole MLflow, round trips; takes some minutes
	MODELYARD_MLFLOW=1 $(BIN)/pytest -rP tests/scenarios/test_mlflow_*.py $(ARGS)

estimators: $(READY)  ## Pack and verify every scikit-learn estimator, XGBoost and LightGBM
	$(BIN)/python -m benchmarks.estimators $(ARGS)

docs: $(READY)   ## Regenerate the CLI reference
	$(BIN)/python -m docs.generate

lock: $(READY)   ## Resolve the lock again
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --all-extras --group dev -o requirements/lock.txt pyproject.toml requirements/build.in
	grep -A 100 -E '^uv==' requirements/lock.txt | awk 'NR==1 || /^ /{print; next} {exit}' > requirements/bootstrap.txt

clean:           ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .fuzz .import_linter_cache
