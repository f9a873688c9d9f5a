#!/usr/bin/env bash
# Fetches what is missing, says what it fetches, and is silent when nothing is: setup.sh [postgres] [node] [python] [pages] [browser] [deny]; or pages-if-possible
# A second run touches neither the network nor the disk.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { echo "setup: $*"; }

# Debian and Ubuntu packages, as root or through sudo.
packages() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { say "please install these packages as root: $*"; exit 1; }
    as_root=(sudo)
  fi
  command -v apt-get >/dev/null || { say "this is not Debian or Ubuntu; please install what is called there: $*"; exit 1; }
  say "installing $* with apt-get"
  "${as_root[@]}" apt-get update -qq </dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" </dev/null >/dev/null
}

# Whether the packages of a lock file were installed from exactly that file.
fresh() { [ -f "$2" ] && [ "$(cat "$2")" = "$(sha256sum <"$1")" ]; }
mark() { sha256sum <"$1" >"$2"; }

compiler() {
  command -v cargo >/dev/null || { say "no Rust toolchain: see rustup.rs, then run this again"; exit 1; }
  command -v cc >/dev/null || packages build-essential
}

postgres() {
  compiler
  if [ -n "${PGBIN:-}" ]; then
    [ -x "$PGBIN/initdb" ] || { say "PGBIN is $PGBIN, and there is no initdb in it"; exit 1; }
  elif ! command -v initdb >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
    packages postgresql postgresql-contrib
  fi
  # The server programs of npm's packages come without it.
  [ -x "${PGBIN:-}/psql" ] || command -v psql >/dev/null || packages postgresql-client
}

node_itself() {
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    packages nodejs npm
  fi
}

node() {
  node_itself
  local folder=tests/clients/node
  if ! fresh "$folder/package-lock.json" "$folder/node_modules/.installed"; then
    say "fetching the versions of supabase-js into $folder/node_modules"
    (cd "$folder" && npm ci --silent --ignore-scripts </dev/null)
    mark "$folder/package-lock.json" "$folder/node_modules/.installed"
  fi
}

python() {
  command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null || packages python3 python3-venv
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { say "realtime-py needs Python 3.11 or newer, and python3 is $(python3 --version)"; exit 1; }
  local pins name
  for pins in tests/clients/python/*.txt; do
    name=$(basename "$pins" .txt)
    local venv=tests/clients/python/.venv/$name
    if ! fresh "$pins" "$venv/.installed"; then
      say "fetching $name into $venv"
      python3 -m venv --clear "$venv"
      "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$pins" </dev/null
      mark "$pins" "$venv/.installed"
    fi
  done
}

# The chat pages, built from exactly the sources that are there.
pages() {
  node_itself
  command node -e 'const [major, minor] = process.versions.node.split("."); process.exit(major > 20 || (major == 20 && minor >= 19) ? 0 : 1)' ||
    { say "the chat pages need Node 20.19 or newer, and this is $(command node --version)"; exit 1; }
  local folder=frontend
  if ! fresh "$folder/package-lock.json" "$folder/node_modules/.installed"; then
    say "fetching what the chat pages are built with into $folder/node_modules"
    (cd "$folder" && npm ci --silent --ignore-scripts </dev/null)
    mark "$folder/package-lock.json" "$folder/node_modules/.installed"
  fi
  local sources
  sources=$(cd "$folder" && find package-lock.json index.html vite.config.ts src public -type f | LC_ALL=C sort | xargs cat | sha256sum)
  if [ ! -f "$folder/dist/.built" ] || [ "$(cat "$folder/dist/.built")" != "$sources" ]; then
    say "building the chat pages into $folder/dist"
    (cd "$folder" && npx --no-install vite build --logLevel warn </dev/null)
    echo "$sources" >"$folder/dist/.built"
  fi
}

# The same for those who only want to look: without Node the demo has no pages, and says so.
pages_if_possible() {
  local version
  if version=$(command node --version 2>/dev/null) && command -v npm >/dev/null &&
    command node -e 'const [major, minor] = process.versions.node.split("."); process.exit(major > 20 || (major == 20 && minor >= 19) ? 0 : 1)'; then
    pages
  elif [ -f frontend/dist/index.html ]; then
    say "the chat pages are as they were built before: building them anew needs Node 20.19 or newer, with npm"
  else
    say "no chat pages: building them needs Node 20.19 or newer, with npm, and here is ${version:-none}"
  fi
}

browser() {
  [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
    command -v google-chrome >/dev/null || packages chromium fonts-noto-color-emoji
}

# What looks at the dependencies. Only `make check` needs it.
deny() {
  cargo deny --version >/dev/null 2>&1 && return
  compiler
  say "installing cargo-deny with cargo, which takes minutes"
  cargo install cargo-deny --locked --quiet </dev/null ||
    { say "cargo-deny could not be installed, so licences and sources cannot be looked at"; exit 1; }
}

for part in "$@"; do
  case $part in
    postgres | node | python | pages | browser | deny) "$part" ;;
    pages-if-possible) pages_if_possible ;;
    *) say "unknown part $part"; exit 2 ;;
  esac
done
