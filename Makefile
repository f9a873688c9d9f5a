# What people do with this repository. `make` alone lists it; the text is the comment behind each `##`.
# Nothing here needs Docker. Postgres refuses to run as root: the test harness and `relay demo` start it as the user
# `postgres` (or `nobody`) when they are run as root, and as yourself otherwise.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-busy check test-sql test-clients test-frontend test-pg chaos attack fuzz golden readme bench psql deny

# How many tests run at once. Most wait for Postgres, so a little more than there are processors.
THREADS ?= $(shell echo $$(( $$(nproc) + 1 )))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s%s\n", $$1, $$2 }' Makefile

setup: ## fetch what is missing for the tests: Postgres server programs, Node, Python packages, Chromium; build the chat pages
	@tests/setup/setup.sh postgres node python pages browser

demo: ## a chat to use: builds the pages, and prints one address to open; a throwaway Postgres, the relay on it
	@tests/setup/setup.sh postgres pages-if-possible
	cargo run -- demo

test: setup ## every test: units, SQL, the relay on real Postgres, the SDKs; ends with one line of totals
	@tests/setup/test.sh $(THREADS)

test-busy: setup ## every test while one core is kept busy, RUNS=n times (3 if not set); totals of each run and of all
	@tests/setup/busy.sh $(or $(RUNS),3) $(THREADS)

check: ## what needs no Postgres: format, lints, units, layers, documentation, licences; installs cargo-deny when missing
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test --lib
	cargo test --test main layers::
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items
	@tests/setup/deny.sh

test-sql: ## only the shipped SQL, against sql/tests/expected
	@tests/setup/setup.sh postgres
	cargo test --test main sql::

test-clients: setup ## only the SDKs: supabase-js of both protocol versions, realtime-py
	cargo test --test main clients::

test-frontend: ## only the chat pages: types, units, and the browser on the built relay
	@tests/setup/setup.sh postgres pages browser
	cargo build
	@tests/setup/frontend.sh

test-pg: ## every test on another Postgres: PGBIN=/path/to/bin, or PG=16, 17, 18 fetched from npm
	@tests/setup/setup.sh postgres node python pages browser
	@bin="$(abspath $(PGBIN))"; [ -n "$$bin" ] || bin=$$(tests/setup/postgres.sh "$(PG)") || exit 1; \
	PGBIN="$$bin" tests/setup/test.sh $(THREADS)

chaos: setup ## every fault in its long form, against a release build: an hour or more; SEED=n repeats a run, ONLY=name one part
	CHAOS=long cargo test --release --test main chaos::$(ONLY) -- --nocapture --test-threads 1 2>&1 | tee target/chaos.log
	@! grep -q '^test .*FAILED' target/chaos.log && grep -q '^test result: ok' target/chaos.log

attack: ## every attack from one address in its long form, and a table of what others noticed: minutes; ONLY=name for some; a release build where there is one
	@tests/setup/setup.sh postgres
	ATTACK=long ONLY="$(ONLY)" cargo test $(if $(wildcard target/release/relay),--release) --test main attack::the_table -- --nocapture 2>&1 | tee target/attack.log
	@grep -q '^test result: ok' target/attack.log

fuzz: ## bytes from outside, bent and mixed, FUZZ_SECONDS (60) for each place where they are read; SEED=n repeats a run
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) $(if $(SEED),SEED=$(SEED)) cargo test --profile fuzz --test main fuzz:: -- --nocapture --test-threads 1

golden: ## write the expected outputs anew, then show what changed
	UPDATE_GOLDEN=1 cargo test --lib golden
	UPDATE_GOLDEN=1 cargo test --test main sql::
	git diff --stat -- tests/golden sql/tests/expected

readme: ## write the README's section on compatibility anew, from the checklist
	UPDATE_README=1 cargo test --test main compatibility::
	git diff --stat -- README.md

bench: ## the benches, and the figures from commit to client
	@tests/setup/setup.sh postgres
	cargo bench
	cargo run --release -- bench

psql: ## a shell in the database of DATABASE_URL (make demo prints it)
	@psql "$${DATABASE_URL:?set it to the address that make demo prints}"

deny: ## licences, sources and advisories of every dependency; installs cargo-deny when missing, fails without advisories
	@tests/setup/deny.sh advisories
