# make demo: set up and look at what a neuron likes.  make test: set up and run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CNNVIS := $(BIN)/cnnvis
# Threads that spin while they wait make two busy programs on one machine several times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help demo test fuzz kill lint format check bench gallery pictures weights wheel clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/developed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## render what four classes of the bundled network look like to it
	@$(CNNVIS) maximize -c demo
	@echo "Look at the picture whose path stands above. Then try:"
	@echo "  $(CNNVIS) saliency image=YOUR.jpg      $(CNNVIS) dream image=YOUR.jpg      $(CNNVIS) style content=YOUR.jpg stylizer=painter"

# A process a core with a thread each: small tensors gain nothing from a second thread.
test: $(VENV)/developed  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

fuzz: $(VENV)/developed  ## throw 20,000 inputs that make no sense at each parser (half an hour)
	OMP_NUM_THREADS=1 FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest tests/fuzz -n auto --maxprocesses 4

kill: $(VENV)/developed  ## kill commands 200 times at random moments, run them again, compare (half an hour)
	$(BIN)/python -m tests.kill 200

lint: $(VENV)/developed  ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/developed  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: test lint  ## tests and lint

bench: $(VENV)/developed  ## compare with the peers, interleaved in one process
	$(BIN)/python -m tests.benchmarks

gallery: $(VENV)/installed  ## run every command and make one page of what they made
	$(CNNVIS) run jobs/all --out runs/all
	@$(CNNVIS) gallery runs/all

pictures: $(VENV)/installed  ## make the README's pictures anew
	$(CNNVIS) run jobs/readme --out runs/readme
	$(BIN)/python assets/make_pictures.py runs/readme assets/readme

weights: $(VENV)/installed  ## train the bundled networks anew (hours; data/ as the cards say)
	$(BIN)/python assets/make_digits.py data/digits
	$(CNNVIS) train -c train/lenet name=lenet --out runs/weights
	$(CNNVIS) train -c train/minivgg name=minivgg --out runs/weights
	cp runs/weights/*.safetensors assets/  # what the others start from
	$(CNNVIS) train -c train/minivgg_robust name=minivgg_robust --out runs/weights
	$(CNNVIS) train -c train/paintings name=paintings --out runs/weights/first
	$(CNNVIS) train -c train/paintings_longer start=runs/weights/first/paintings.safetensors name=paintings --out runs/weights
	$(CNNVIS) train -c train/painter name=painter --out runs/weights
	$(CNNVIS) train -c train/decoder name=decoder --out runs/weights
	$(CNNVIS) train -c train/masker name=masker --out runs/weights
	cp runs/weights/*.safetensors assets/

wheel: $(VENV)/developed  ## build the wheel into dist/
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --wheel

clean:  ## remove what was built (results in runs/ stay)
	rm -rf $(VENV) dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
