#!/usr/bin/env bash
# Regenerates onnx-ml.pb.go from onnx-ml.proto (of onnx 1.23.2, Apache-2.0), with
# tools at fixed versions, kept in the user's cache.
set -euo pipefail
cd "$(dirname "$0")"
tools="${XDG_CACHE_HOME:-$HOME/.cache}/seralm/tools/protoc-1.85.1-go-1.36.12"
if [ ! -x "$tools/bin/protoc-gen-go" ]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" -q --disable-pip-version-check install grpcio-tools==1.85.1
  env -u CXX -u CGO_CFLAGS -u CGO_CXXFLAGS -u CGO_LDFLAGS CGO_ENABLED=0 GOFLAGS= GOBIN="$tools/bin" \
    go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
fi
PATH="$tools/bin:$PATH" "$tools/bin/python" -m grpc_tools.protoc -I. --go_out=. --go_opt=paths=source_relative \
  --go_opt=Monnx-ml.proto=seralm/models/onnx/internal/onnxpb onnx-ml.proto
