# The interpreter that everything is built on; for example: make test PYTHON=python3.13
PYTHON ?= python3

# Where things are. Each environment holds exactly what one lock file says, and is thrown away and made anew when that
# file changes.
VENV        := .venv
# The generator of the stubs is deliberately old (clients/python/pyproject.toml says why), so it cannot share .venv.
PROTO_VENV  := .venv-proto
# The oldest grpcio, protobuf and cryptography that the Python client promises to run on.
OLDEST_VENV := .venv-oldest
# The one tool that no lock can pin, because it writes the locks.
TOOLS_VENV  := .venv-tools
UV          := uv==0.13.9

CLIENT   := clients/python
STUBS    := recognition/v1
BASELINE := proto/baseline.binpb

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run demo test test-long lint fmt proto proto-go proto-typescript proto-baseline docs lock bench bench-full bench-clients clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev $(PROTO_VENV)/.ready $(OLDEST_VENV)/.ready ## Install everything for working on the project

run: $(VENV)/.linked ## Start the four-province lab and keep it running until Ctrl-C
	@exec $(VENV)/bin/mrg lab up

demo: $(VENV)/.linked ## Play the lab's story once and leave; JSON=1 prints one JSON object a step and nothing else
	@exec $(VENV)/bin/mrg lab demo $(if $(filter-out 0,$(JSON)),--json)

test: $(VENV)/.dev $(OLDEST_VENV)/.ready ## Run the tests; ARGS='-k replay' hands options to pytest
	$(VENV)/bin/pytest -n auto --dist loadfile $(ARGS)

test-long: $(VENV)/.dev $(OLDEST_VENV)/.ready ## Run the tests that are too slow for every day
	$(VENV)/bin/pytest -m long $(ARGS)

lint: $(VENV)/.dev $(PROTO_VENV)/.ready ## Check format, style, types, layers, the contract and its stubs; changes nothing
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/buf lint proto
	$(VENV)/bin/buf format --diff --exit-code proto
	$(VENV)/bin/buf breaking proto --against $(BASELINE)
	@echo 'Comparing the committed stubs with freshly generated ones'
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call generate,"$$fresh") \
	  && diff -r -x __init__.py -x __pycache__ $(CLIENT)/$(STUBS) "$$fresh"/$(STUBS) \
	  || { echo 'The stubs do not match proto/: run make proto and commit what it changes.' >&2; exit 1; }

fmt: $(VENV)/.dev ## Format Python and proto files, and repair what can be repaired safely
	$(VENV)/bin/ruff check --fix-only --exit-zero
	$(VENV)/bin/ruff format
	$(VENV)/bin/buf format --write proto

proto: $(PROTO_VENV)/.ready ## Generate the Python stubs from proto/
	rm -f $(CLIENT)/$(STUBS)/*_pb2.py $(CLIENT)/$(STUBS)/*_pb2.pyi
	rm -f $(CLIENT)/$(STUBS)/*_pb2_grpc.py $(CLIENT)/$(STUBS)/*_pb2_grpc.pyi
	$(call generate,$(CLIENT))

proto-go: $(PROTO_VENV)/.ready ## Generate the Go stubs, words and retry policy
	clients/go/generate.sh

proto-typescript: $(VENV)/.dev $(PROTO_VENV)/.ready ## Generate the TypeScript stubs, words and retry policy
	npm --prefix clients/typescript ci --ignore-scripts
	npm --prefix clients/typescript run generate

proto-baseline: $(VENV)/.dev ## Release the contract: from now on, make lint refuses changes that break it
	$(VENV)/bin/buf build proto --exclude-source-info --output $(BASELINE)

docs: $(VENV)/.dev ## Write the pages of the API and of the reasons, and the words of the Python and Java clients
	$(VENV)/bin/python -m reference
	$(VENV)/bin/python $(CLIENT)/generate_reasons.py
	$(VENV)/bin/python clients/java/generate_reasons.py

lock: $(TOOLS_VENV)/.ready ## Write the lock files anew from the pyproject.toml files; UPGRADE=1 takes newer versions
	$(call compile,requirements.lock,pyproject.toml --group build)
	$(call compile,requirements-dev.lock,pyproject.toml --group build --group dev --constraint requirements.lock)
	$(call compile,$(CLIENT)/codegen.lock,--group $(CLIENT)/pyproject.toml:codegen)
	$(call compile,$(CLIENT)/oldest.lock,$(CLIENT)/pyproject.toml --extra evidence --resolution lowest-direct)

bench: $(VENV)/.dev ## Measure for less than three minutes, and print the figures; ARGS='--only unary' measures less
	$(VENV)/bin/python -m bench $(ARGS)

bench-full: $(VENV)/.dev ## Measure everything for most of an hour, and write a report with plots
	$(VENV)/bin/python -m bench --full $(ARGS)

bench-clients: $(VENV)/.dev ## Measure what the clients cost beside the bare stubs; ARGS='go python' measures some
	$(VENV)/bin/python -m bench.clients $(ARGS)

clean: ## Delete the environments and everything else that can be made again
	rm -rf $(VENV) $(PROTO_VENV) $(OLDEST_VENV) $(TOOLS_VENV)
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build $(CLIENT)/build
	rm -rf *.egg-info $(CLIENT)/*.egg-info
	rm -rf clients/java/target clients/typescript/build clients/typescript/dist clients/typescript/node_modules
	find bench gateway reference tests $(CLIENT) -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# --- How it is done -----------------------------------------------------------------------------------------------

# $(call generate,<folder>) writes the stubs of the whole contract to <folder>/recognition/v1.
generate = $(PROTO_VENV)/bin/python -m grpc_tools.protoc -I proto \
  --plugin=protoc-gen-mypy=$(PROTO_VENV)/bin/protoc-gen-mypy \
  --plugin=protoc-gen-mypy_grpc=$(PROTO_VENV)/bin/protoc-gen-mypy_grpc \
  --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) \
  proto/$(STUBS)/*.proto

# $(call compile,<lock file>,<what to lock>) pins for every platform and every Python from 3.11 on, each file by hash.
# Our own client is left out: it is installed from this tree.
compile = $(TOOLS_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-package recognition-client --custom-compile-command 'make lock' \
  $(if $(filter-out 0,$(UPGRADE)),--upgrade) --output-file $(1) $(2)

# $(call environment,<folder>) makes an empty virtual environment. All that installing has to say goes to stderr:
# stdout belongs to the command that was asked for. The interpreter is checked first, because pip would explain much
# less clearly what is wrong with it.
environment = { $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
    echo 'Python 3.11 or newer is needed, and "$(PYTHON)" is not that. Name one: make PYTHON=python3.12 ...'; exit 1; } \
  && echo 'Making $(1)' && $(PYTHON) -m venv --clear $(1); } >&2

# $(call install,<folder>,<lock file>) installs a lock file. Only wheels: nothing foreign runs, or needs a compiler.
install = $(1)/bin/python -m pip --disable-pip-version-check install --quiet \
  --require-hashes --only-binary :all: --requirement $(2) >&2

# Three stamps in one environment, so that running the lab does not install the tools, and editing the settings of a
# tool in pyproject.toml does not install everything again.
$(VENV)/.installed: requirements.lock
	@$(call environment,$(VENV))
	@$(call install,$(VENV),requirements.lock)
	@touch $@

# The build backend comes from the lock too, therefore no build isolation.
$(VENV)/.linked: $(VENV)/.installed pyproject.toml $(CLIENT)/pyproject.toml
	@$(VENV)/bin/python -m pip --disable-pip-version-check install --quiet \
	  --no-deps --no-build-isolation --editable $(CLIENT) --editable . >&2
	@touch $@

$(VENV)/.dev: $(VENV)/.linked requirements-dev.lock
	@$(call install,$(VENV),requirements-dev.lock)
	@touch $@

$(PROTO_VENV)/.ready: $(CLIENT)/codegen.lock
	@$(call environment,$(PROTO_VENV))
	@$(call install,$(PROTO_VENV),$(CLIENT)/codegen.lock)
	@touch $@

$(OLDEST_VENV)/.ready: $(CLIENT)/oldest.lock
	@$(call environment,$(OLDEST_VENV))
	@$(call install,$(OLDEST_VENV),$(CLIENT)/oldest.lock)
	@touch $@

$(TOOLS_VENV)/.ready: Makefile
	@$(call environment,$(TOOLS_VENV))
	@$(TOOLS_VENV)/bin/python -m pip --disable-pip-version-check install --quiet $(UV) >&2
	@touch $@
