# The commands to know. CI runs .ci/run, which is `check` and the tools it needs.

# Formatting, lints, tests.
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo test

test *args:
    cargo test {{args}}

# All benches, or the one named.
bench *args:
    cargo bench {{args}}

# Transcripts and tools against a real Redis: all of them must be installed.
conform:
    RUFOUS_REQUIRE_INTEROP=1 cargo test --test suite -- interop real_redis redis_8 examples

# Replication under faults: so many histories of each kind.
repl-sim seeds="5000":
    REPL_SIM_SEEDS={{seeds}} cargo test --test suite -- repl_sim

# The tests of the files with unchecked code, under the address sanitizer.
asan:
    LSAN_OPTIONS=suppressions=fuzz/leaks.txt RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
        cargo test --lib --target x86_64-unknown-linux-gnu -- entry trie types

# How threads hand over to each other, through all orders that scheduler and memory allow.
proofs:
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/proofs" \
        cargo test --release --manifest-path proofs/Cargo.toml

# The tests that play over threads of sockets, under the thread sanitizer. Needs a nightly toolchain
# with rust-src: the standard library is built for it, too. A race ends the server, and its test fails.
tsan:
    TSAN_OPTIONS="halt_on_error=1 log_path=/tmp/rufous-races suppressions={{justfile_directory()}}/proofs/races.txt" \
    RUFOUS_IO_THREADS=3 \
    RUSTFLAGS="-Zsanitizer=thread --cfg tsan" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/tsan" \
        cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu --test suite -- threads:: tcp::

# Fuzzes one target of fuzz/fuzz_targets. Needs cargo-fuzz. Without the address sanitizer and with
# little optimization, for all of it together builds for a quarter of an hour.
fuzz target seconds="60":
    RUSTC_BOOTSTRAP=1 CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0 \
        cargo fuzz run --dev -s none {{target}} -- -max_total_time={{seconds}}

# Writes generated files anew: redis.conf.example, docs/compatibility.md.
example:
    UPDATE=1 cargo test --lib example
    UPDATE=1 cargo test --test suite compatibility
