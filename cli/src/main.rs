//! `ringpost`: measure, send, receive and look after rings from the shell.

mod bench;
mod ending;
mod output;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Message passing between processes through a lock-free ring in shared memory.
#[derive(Parser)]
#[command(name = "ringpost", version, arg_required_else_help = true, after_help = ending::EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// One verb a variant, one file (or folder) a verb.
#[derive(Subcommand)]
enum Verb {
    /// Measure every mechanism side by side between two processes
    Bench(bench::BenchArguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Bench(arguments) => bench::run(&arguments),
    };
    ending::exit_code(result)
}
