# Each step runs alone; CONTRIBUTING.md says what it shows.

# What can be run
_default:
    @just --list --unsorted

fmt:
    cargo fmt --check

clippy:
    cargo clippy --workspace --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

test:
    cargo test --workspace

hosted:
    cargo test --package ringpost --features shared_memory --test hosted

tarpc:
    cargo test --package ringpost-rpc --features tarpc --test tarpc

bridge:
    cargo test --manifest-path bridge/Cargo.toml

loom:
    cargo test --package loom-tests

loom-long:
    LOOM_MAX_PREEMPTIONS=3 cargo test --release --package loom-tests -- --nocapture

mutations-long:
    RINGPOST_LONG=1 cargo test --package loom-tests --test mutations -- --nocapture

model-long:
    RINGPOST_MODEL=long cargo test --release --package ringpost --test protocol_model -- --nocapture

processes-long:
    RINGPOST_LONG=1 cargo test --release --package ringpost --test processes --test links --test lanes --test deaths -- --nocapture --test-threads=1

every-instruction-long:
    RINGPOST_LONG=1 cargo test --release --package ringpost --test every_instruction -- --nocapture

soak:
    RINGPOST_LONG=1 cargo test --release --package ringpost --test soak -- --nocapture --test-threads=1

system-calls-long:
    RINGPOST_LONG=1 cargo test --package ringpost --test system_calls -- --nocapture

calls-long:
    RINGPOST_LONG=1 cargo test --release --package ringpost-rpc --test semantics -- --nocapture --test-threads=1

mailbox-long:
    RINGPOST_LONG=1 cargo test --release --package ringpost --test mailbox -- --nocapture

kills-long:
    RINGPOST_LONG=1 cargo test --release --package ringpost --test kill_campaign -- --nocapture --test-threads=1

hostile-long:
    RUSTFLAGS="-C debug-assertions -C overflow-checks=on" RINGPOST_LONG=1 cargo test --release --package ringpost --target-dir target/checked --test hostile -- --nocapture --test-threads=1

fuzz target="receive" seconds="900":
    cargo +nightly fuzz run --sanitizer none {{target}} -- -max_total_time={{seconds}} -max_len=1024 -timeout=25

miri:
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-many-seeds=0..8" cargo +nightly miri test --package ringpost --lib
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-seed=3" cargo +nightly miri test --package ringpost --test threads --test model

tsan:
    RUSTFLAGS="-Zsanitizer=thread" cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu --package ringpost --test threads

bench:
    cargo bench --package ringpost

deny:
    cargo deny check
