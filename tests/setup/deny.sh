#!/usr/bin/env bash
# Licences, bans and sources of every dependency, and its advisories where their database can be had: deny.sh [advisories]
# Says what was not looked at; with the argument `advisories`, that is a failure.
set -uo pipefail
cd "$(dirname "$0")/../.."

tests/setup/setup.sh deny || exit 1
cargo deny check bans licenses sources || exit 1

# Fetched now, or there from before; where it cannot be had, that is no finding, and is said.
if cargo deny fetch db >/dev/null 2>&1; then
  from="fetched just now"
elif compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/.git" >/dev/null; then
  from="that was there before and could not be renewed"
else
  echo "deny: ADVISORIES WERE NOT LOOKED AT: their database cannot be fetched from here"
  [ "${1:-}" != advisories ]
  exit
fi
cargo deny check --disable-fetch advisories || exit 1
echo "deny: advisories were looked at, in a database $from"
