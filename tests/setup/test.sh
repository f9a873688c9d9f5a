#!/usr/bin/env bash
# Runs every test and ends with one line of totals: test.sh [THREADS]
# Exits 1 when a test failed or something did not build.
set -uo pipefail
cd "$(dirname "$0")/../.."

report=$(mktemp)
trap 'rm -f "$report"' EXIT

cargo test --no-fail-fast -- --test-threads "${1:-2}" 2>&1 </dev/null | tee "$report"
status=${PIPESTATUS[0]}

tests/setup/frontend.sh 2>&1 </dev/null | tee -a "$report"
status=$((status + PIPESTATUS[0]))

# Of cargo, Vitest and Playwright, in this order.
read -r passed failed < <(awk '
  /^test result:/ { passed += $4; failed += $6 }
  /^ +Tests +[0-9]/ { for (n = 2; n < NF; n++) { if ($(n + 1) == "passed") passed += $n; if ($(n + 1) == "failed") failed += $n } }
  /^ +[0-9]+ passed/ { passed += $1 }
  /^ +[0-9]+ (failed|flaky|did not run|interrupted)/ { failed += $1 }
  END { print passed + 0, failed + 0 }' "$report")
# What did not build or did not end says nothing of itself.
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
  failed=1
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
