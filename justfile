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
    RUFOUS_REQUIRE_INTEROP=1 cargo test --test suite -- interop real_redis examples

# The tests under the address sanitizer; needs a nightly toolchain.
asan:
    RUSTFLAGS="-Zsanitizer=address" cargo +nightly test --lib --target x86_64-unknown-linux-gnu

# Fuzzes one target: request_parser, glob. Needs cargo-fuzz and a nightly toolchain.
fuzz target seconds="60":
    cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}

# Writes generated files anew: redis.conf.example, docs/compatibility.md.
example:
    UPDATE=1 cargo test --lib example
    UPDATE=1 cargo test --test suite compatibility
