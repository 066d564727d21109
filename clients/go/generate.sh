#!/usr/bin/env bash
# Writes what is generated here: the stubs from proto/, the words of reasons and next steps from clients/texts.json, and
# the copy of clients/service-config.json. With --check it changes nothing, and fails where what is committed differs.
#
# The plugins are those that tools/go.mod pins; protoc is that of the repository's .venv-proto (make setup), or $PROTOC.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

read -r -a protoc <<<"${PROTOC:-../../.venv-proto/bin/python -m grpc_tools.protoc}"
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

go -C tools build -o "$fresh/" \
  google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
"${protoc[@]}" -I ../../proto \
  --plugin="protoc-gen-go=$fresh/protoc-gen-go" --go_out="$fresh" --go_opt=module=recognition.example/client \
  --plugin="protoc-gen-go-grpc=$fresh/protoc-gen-go-grpc" --go-grpc_out="$fresh" \
  --go-grpc_opt=module=recognition.example/client \
  ../../proto/recognition/v1/*.proto
go run ./internal/words <../texts.json >"$fresh/words.go"
cp ../service-config.json "$fresh/service-config.json"

if [ "${1:-}" = --check ]; then
  for each in recognitionv1 words.go service-config.json; do
    diff -r "$each" "$fresh/$each" || {
      echo "clients/go/$each is not current: run clients/go/generate.sh and commit what it changes." >&2
      exit 1
    }
  done
else
  rm -rf recognitionv1
  cp -r "$fresh/recognitionv1" "$fresh/words.go" "$fresh/service-config.json" .
fi
