# Everything a person does with this checkout. `make help` lists it.
#
# The build's environment (compiler wrapper, include paths, libraries) comes from
# ops/setup/native.py and from nowhere else: Go's build cache keeps libtorch's C++
# layer, which takes minutes to compile, only while those flags stay the same.

SHELL   := /bin/bash
NATIVE  := python3 ops/setup/native.py
ENV     := eval "$$($(NATIVE) env)" &&
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  = -X seralm/config.onnxRuntime=$$SERALM_ONNXRUNTIME -X seralm/config.smolLM2=$$SERALM_SMOLLM2 -X seralm/config.miniLM=$$SERALM_MINILM -X seralm/config.Version=$(VERSION)
# Packages that do not link libtorch, in their tests neither: the race detector runs on them.
# apptest is not among them: the programs that it starts are built without.
PURE     = $$(go list -f '{{.ImportPath}} {{join .Deps " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... | \
             grep -v -e gotch -e seralm/models/tensor -e seralm/models/seqrec -e ^seralm/apptest | cut -d' ' -f1)

.PHONY: help setup weights build demo test race test-integration lint vet generate-check bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: ## fetch libtorch and ONNX Runtime once per user (about 560 MB)
	@$(NATIVE) setup

weights: ## fetch a small language model and a text encoder once per user (about 190 MB)
	@$(NATIVE) setup smollm2 minilm

build: setup ## build bin/seralm and bin/seralm-serve
	@$(ENV) if [ ! -f "$$(go env GOCACHE)/.seralm-built" ]; then \
	  echo "build: the first build compiles libtorch's Go layer, 2-3 minutes; later ones take seconds" >&2; fi
	@$(ENV) go build -ldflags "$(LDFLAGS)" -o bin/seralm ./cmd/seralm
	@$(ENV) unset CXX CGO_CFLAGS CGO_CXXFLAGS CGO_LDFLAGS && go build -ldflags "$(LDFLAGS)" -o bin/seralm-serve ./cmd/seralm-serve
	@touch "$$(go env GOCACHE)/.seralm-built"

demo: build weights ## a stream of real ratings, a model that learns it, recommendations; ARGS="--user 42"
	@bin/seralm demo $(ARGS)

test: setup ## every test that needs nothing but this checkout
	@$(ENV) go test $(TESTFLAGS) ./...

race: setup ## the same with the race detector, for what does not link libtorch
	@$(ENV) go test -race $(TESTFLAGS) $(PURE)

test-integration: setup ## the stream and view tests against a real Apache Kafka and a real Redis
	@$(ENV) ops/integration/run.sh go test -count=1 $(TESTFLAGS) ./stream/... ./feature/... ./consumers/... ./producers/... ./apptest

bench: setup ## SASRec's learning speed against RecBole's, in one run (needs Python 3.11; 5 GB the first time)
	@bench/recbole.sh

generate-check: ## generated files are what their sources make
	@models/onnx/internal/onnxpb/generate.sh
	@git diff --exit-code --stat -- models/onnx/internal/onnxpb

vet: setup
	@$(ENV) go vet ./...

lint: setup ## golangci-lint, at the version in ops/setup/tools.txt
	@$(ENV) ops/setup/lint.sh

clean: ## remove what was built here (not the per-user cache)
	@rm -rf bin build
