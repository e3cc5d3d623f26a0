//! ringpost beside its peers, in the harness of `ringpost bench`: one interleaved run, anchored sample by sample.
//!
//! ```text
//! cargo run --release --manifest-path bench-peers/Cargo.toml -- --quick
//! ```

mod peer;
mod threads;

use std::process::ExitCode;

use clap::Parser;
use ringpost_cli::{
    bench::{self, BenchArguments, registry},
    ending,
};

/// Measures ringpost and its peers side by side between two processes.
#[derive(Parser)]
#[command(name = "bench-peers", version)]
struct Arguments {
    #[command(flatten)]
    bench: BenchArguments,
}

fn main() -> ExitCode {
    registry::add(peer::ENTRIES);
    let mut bench = Arguments::parse().bench;
    if bench.mechanisms.is_empty() {
        bench.mechanisms = (0..registry::entries().count())
            .filter(|&index| peer::COMPARED.contains(&registry::entry(index).name) || is_peer(index))
            .collect();
    }
    let result = bench::run(&bench);
    peer::remove_leftovers();
    ending::exit_code(result)
}

fn is_peer(index: usize) -> bool {
    peer::ENTRIES.iter().any(|peer| peer.name == registry::entry(index).name)
}
