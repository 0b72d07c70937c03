# make demo    train and evaluate a small detector, no download needed
# make test    the test suite
# make env     the environment alone
# Each creates $(VENV) when it is missing. Behind a proxy or with an own index,
# pip's environment variables apply (PIP_INDEX_URL, ...).
PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/ready
READY_FOR_TESTS := $(VENV)/ready_for_tests
RUN := $(VENV)/bin/python

.PHONY: demo test test-most test-kernels test-slow lint env
demo: $(READY)
	$(RUN) tools/demo.py

# Two processes of one thread each. A third one runs the GPU's kernels in
# Triton's interpreter, which is chosen for a whole process; what it prints
# comes in one piece.
test: $(READY_FOR_TESTS) lint
	@$(MAKE) --no-print-directory -j 2 test-most test-kernels

test-most: $(READY_FOR_TESTS)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -m "not slow" -n 2 --dist worksteal \
		--timeout 300

test-kernels: $(READY_FOR_TESTS)
	@printed=$$(OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(RUN) -m pytest \
		-m "not slow" --timeout 300 --noconftest \
		tests/test_layers/test_triton.py 2>&1); \
	code=$$?; printf '\n%s\n' "$$printed"; exit $$code

test-slow: $(READY_FOR_TESTS)
	$(RUN) -m pytest -m slow

lint: $(READY_FOR_TESTS)
	$(RUN) -m ruff check .

env: $(READY_FOR_TESTS)

$(READY): tools/misc/make_env.py mmdet_scconv/stack.py setup.py
	$(PYTHON) tools/misc/make_env.py $(VENV)
	@touch $@

$(READY_FOR_TESTS): $(READY)
	@echo; echo "== the tests' packages"
	$(RUN) -m pip --disable-pip-version-check install -q --no-compile \
		--no-build-isolation -e '.[demo,test]'
	@touch $@
