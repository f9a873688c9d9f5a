#!/usr/bin/env bash
# Server programs of another major version, from npm: postgres.sh 16|17|18 prints their directory.
# psql is not among them; the tests take the system's.
set -euo pipefail
cd "$(dirname "$0")/postgres"

major=${1:-}
if ! grep -q "\"pg$major\":" package.json; then
  echo "which Postgres? one of: $(grep -o '"pg[0-9]*"' package.json | tr -d '"pg' | xargs), or PGBIN=/path/to/bin" >&2
  exit 2
fi
if [ ! -f node_modules/.installed ] || [ "$(cat node_modules/.installed)" != "$(sha256sum <package-lock.json)" ]; then
  echo "setup: fetching Postgres servers into tests/setup/postgres/node_modules" >&2
  npm ci --silent --ignore-scripts </dev/null >&2
  # The packages' own script makes the links between library versions; npm does not run it unasked.
  for package in node_modules/pg*; do
    (cd "$package" && node scripts/hydrate-symlinks.js >/dev/null)
  done
  sha256sum <package-lock.json >node_modules/.installed
fi

native=$PWD/node_modules/pg$major/native
if [ "$(id -u)" -eq 0 ]; then
  # Root's tests start the server as another user, who may not be let into this directory.
  open=${TMPDIR:-/tmp}/relay-pg$major-$(sha256sum <package-lock.json | cut -c1-12)
  if [ ! -d "$open" ]; then
    cp -r "$native" "$open.part"
    chmod -R a+rX "$open.part"
    mv "$open.part" "$open"
  fi
  native=$open
fi
echo "$native/bin"
