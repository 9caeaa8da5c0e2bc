# make demo    a live page over a throwaway Postgres, at http://127.0.0.1:8080/
# make test    every test
# make example NAME=chat  one of examples/ on a throwaway Postgres, at http://localhost:5173/
# make test-client  the tests of the npm package in client/ alone, against the server that is built here
# make test-examples  the tests of examples/ alone, each in a browser
# make test-console  the tests of the console in console/ alone, the same
# make client  the package @walcast/client, built in client/
# make test-otlp  the tests of traces, of a program that is built with them
# make test-versions  the tests that use a server, on Postgres 14 to 18; VERSIONS='14 18' for some of them
# make test-upgrade  the program of the last tag against this one, and back; FROM=<commit> for that of a commit
# make torture writers, fifty clients and faults at random for ten minutes; SECONDS=3600 for an hour
# make bench   drain against pg_recvlogical, latency, idle connections, fan-out, large transactions, many subscriptions,
#              snapshots, clients that resume at once, slow clients, heavy queries, policies, clients that do harm, takeovers;
#              ARGS=latency for one of them; ARGS=console for what the console costs a browser, which is not among them, in 30
#              seconds; SECONDS=600 for ten minutes
# make lint    formatting, clippy, documentation
# make package the Debian package of a program that is built for it
# make release TAG=v1.0.0  every artefact of a release, from a tag; DIRECTORY=… for another place than target/release-v1.0.0
#
# Each installs what it needs by apt-get, and says so first. Nothing is started but what the target itself stops.

CARGO ?= cargo
ARGS ?=
VERSIONS ?=
SECONDS ?=
FROM ?=
NAME ?=

# Where cargo puts the programs that it builds.
BUILT = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)

# Builds the program that the tests in other languages start. For all tests it is built with them: alone, its dependencies
# have fewer features, and would be built a second time.
BUILD = $(CARGO) build --locked
test: BUILD = $(CARGO) test --workspace --locked --no-run

.PHONY: demo example test client test-client test-console test-examples test-otlp test-versions test-upgrade torture bench lint package release

demo:
	@scripts/install.sh compiler postgres
	$(CARGO) run --release --locked -- demo $(ARGS)

example:
	@scripts/install.sh compiler postgres node python
	$(CARGO) build --release --locked
	@$(MAKE) --no-print-directory $(EXAMPLES)
	@WALCAST="$(BUILT)/release/walcast" node examples/run.js $(NAME)

# The packages that the examples use: the client as it is here, and those of npm and PyPI.
EXAMPLES = examples/node_modules/.package-lock.json examples/jobs/.venv/complete

examples/node_modules/.package-lock.json: examples/package-lock.json client/dist/index.js
	@echo "walcast: installing the examples' packages from npm into examples/node_modules"
	cd examples && npm ci --no-audit --no-fund

examples/jobs/.venv/complete: examples/jobs/requirements.txt
	@echo "walcast: installing the packages of the Python worker from PyPI into examples/jobs/.venv"
	python3 -m venv --clear examples/jobs/.venv
	examples/jobs/.venv/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

client/dist/index.js: client/package-lock.json $(shell find client/src -name '*.ts')
	@echo "walcast: building the client, with tools from npm in client/node_modules"
	cd client && npm ci --no-audit --no-fund && npm run build

test: test-client test-console test-examples
	@scripts/install.sh compiler postgres wal2json browser clock pooler deploy chart package
	$(CARGO) test --workspace --locked

client:
	@scripts/install.sh node
	cd client && npm ci --no-audit --no-fund && npm run build

# What the binary embeds is committed: it must be what the sources give.
test-client:
	@scripts/install.sh compiler postgres browser node
	$(BUILD)
	cd client && npm ci --no-audit --no-fund && npm run build
	git diff --exit-code client/dist
	cd client && WALCAST="$(BUILT)/debug/walcast" npm test

test-examples:
	@scripts/install.sh compiler postgres browser node python
	$(BUILD)
	@$(MAKE) --no-print-directory $(EXAMPLES)
	cd examples && WALCAST="$(BUILT)/debug/walcast" npm test

# It is built from the sources of the client, and its tests start a server as those of the client do.
test-console:
	@scripts/install.sh compiler postgres browser node
	$(BUILD)
	[ -d client/node_modules ] || (cd client && npm ci --no-audit --no-fund)
	cd console && npm ci --no-audit --no-fund && npm run build
	git diff --exit-code console/dist
	cd console && WALCAST="$(BUILT)/debug/walcast" npm test

# A program of its own, with other features of its dependencies: minutes that `make test` does without.
test-otlp:
	@scripts/install.sh compiler postgres
	$(CARGO) test --features otlp --locked --test otlp
	$(CARGO) test --features otlp --locked --lib traces::

test-versions:
	ARGS='$(ARGS)' scripts/versions.sh $(VERSIONS)

test-upgrade:
	scripts/test_upgrade.sh $(FROM)

torture:
	@scripts/install.sh compiler postgres
	WALCAST_TORTURE=$(or $(SECONDS),600) $(CARGO) test --release --locked --test torture -- --nocapture

bench:
	@scripts/install.sh compiler postgres
ifeq ($(ARGS),console)
	@scripts/install.sh browser node
	$(CARGO) build --release --locked --bin walcast
	[ -d client/node_modules ] || (cd client && npm ci --no-audit --no-fund)
	cd console && npm ci --no-audit --no-fund && npm run build && WALCAST="$(BUILT)/release/walcast" npm run bench -- $(SECONDS)
else
	$(CARGO) bench --locked --bench end_to_end -- $(ARGS)
endif

lint:
	@scripts/install.sh compiler
	$(CARGO) fmt --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets --features otlp --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

package:
	@scripts/install.sh compiler package
	WALCAST_COMMIT=$$(git rev-parse --short=12 HEAD) $(CARGO) build --release --locked --bin walcast
	mkdir -p $(BUILT)/debian
	scripts/deb.sh $(BUILT)/release/walcast $(BUILT)/debian

release:
	scripts/release.sh $(ARGS) '$(TAG)' '$(or $(DIRECTORY),$(BUILT)/release-$(TAG))'
