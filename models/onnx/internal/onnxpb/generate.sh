#!/bin/sh
# Regenerates onnx-ml.pb.go from onnx-ml.proto (onnx 1.23.2, Apache-2.0). Needs
# python3 with grpcio-tools 1.76 and protoc-gen-go v1.36.10 on PATH:
#   python3 -m pip install grpcio-tools
#   go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.10
set -e
cd "$(dirname "$0")"
python3 -m grpc_tools.protoc -I. --go_out=. --go_opt=paths=source_relative \
  --go_opt=Monnx-ml.proto=seralm/models/onnx/internal/onnxpb onnx-ml.proto
