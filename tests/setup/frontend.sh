#!/usr/bin/env bash
# The tests of the chat pages: types, units, and a browser on the built relay with a Postgres of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
RELAY_BIN=$(cd "$target/debug" && pwd)/relay
export RELAY_BIN CI=true NO_COLOR=1
cd frontend
npx --no-install tsc
npx --no-install vitest run
npx --no-install playwright test --project latency
