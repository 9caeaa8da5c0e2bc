# make demo    a live page over a throwaway Postgres, at http://127.0.0.1:8080/
# make test    every test
# make test-versions  the tests that use a server, on Postgres 14 to 18; VERSIONS='14 18' for some of them
# make torture writers, fifty clients and faults at random for ten minutes; SECONDS=3600 for an hour
# make bench   drain against pg_recvlogical, latency, idle connections, fan-out, large transactions, many subscriptions,
#              snapshots, clients that resume at once, slow clients, heavy queries, takeovers;
#              ARGS=latency for one of them
# make lint    formatting, clippy, documentation
#
# Each installs what it needs by apt-get, and says so first. Nothing is started but what the target itself stops.

CARGO ?= cargo
ARGS ?=
VERSIONS ?=
SECONDS ?= 600

.PHONY: demo test test-versions torture bench lint

demo:
	@scripts/install.sh compiler postgres
	$(CARGO) run --release --locked -- demo $(ARGS)

test:
	@scripts/install.sh compiler postgres wal2json browser clock pooler
	$(CARGO) test --workspace --locked

test-versions:
	ARGS='$(ARGS)' scripts/versions.sh $(VERSIONS)

torture:
	@scripts/install.sh compiler postgres
	WALCAST_TORTURE=$(SECONDS) $(CARGO) test --release --locked --test torture -- --nocapture

bench:
	@scripts/install.sh compiler postgres
	$(CARGO) bench --locked --bench end_to_end -- $(ARGS)

lint:
	@scripts/install.sh compiler
	$(CARGO) fmt --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked
