#!/usr/bin/env bash
# Runs every test again and again while one core is kept busy by something else: busy.sh [RUNS] [THREADS]
# Prints the totals of each run with the tests that failed, then one line over all; exits 1 when a run was not whole. What
# each run printed stays in target/busy.
set -uo pipefail
cd "$(dirname "$0")/../.."

runs=${1:-3}
mkdir -p target/busy

# It ends with this script, however that ends. Without taskset the system chooses the core.
pin=()
command -v taskset >/dev/null && pin=(taskset -c 0)
"${pin[@]}" sh -c 'while kill -0 "$0" 2>/dev/null; do :; done' "$$" &
load=$!
trap 'kill "$load" 2>/dev/null' EXIT

whole=0
for ((run = 1; run <= runs; run++)); do
  begun=$SECONDS
  kill -0 "$load" || { echo "busy: nothing keeps the core busy any more"; exit 1; }
  tests/setup/test.sh "${2:-2}" >"target/busy/run-$run.log" 2>&1 </dev/null && whole=$((whole + 1))
  echo "busy: run $run of $runs: $(tail -n 1 "target/busy/run-$run.log"), after $((SECONDS - begun)) s"
  # Of cargo and Playwright; Vitest marks what failed with a cross.
  grep -E '^test .* \.\.\. FAILED$|^ +(✘|×) |^ +FAIL ' "target/busy/run-$run.log" | sort -u
done
echo "busy: $whole of $runs runs whole with one core kept busy"
[ "$whole" -eq "$runs" ]
