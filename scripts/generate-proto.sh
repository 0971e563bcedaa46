#!/usr/bin/env bash
# Generates the static ONNX codec (no eval, so it runs under a strict CSP) and its types from onnx-ml.proto.
set -euo pipefail
cd "$(dirname "$0")/../src/onnx/proto"
options="-t static-module -w es6 --no-verify --no-delimited --no-service --no-create --no-convert --no-typeurl"
npx pbjs $options --no-comments -o onnx-ml.js onnx-ml.proto
commented=$(mktemp --suffix .js)
npx pbjs $options -o "$commented" onnx-ml.proto
npx pbts --no-comments -o onnx-ml.d.ts "$commented"
rm "$commented"
sed -i 's/import Long = require("long");/import type Long from "long";/; s/import \* as \$protobuf from "protobufjs";/import type * as $protobuf from "protobufjs\/minimal.js";/' onnx-ml.d.ts
