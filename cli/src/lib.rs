//! `ringpost`: measure, send, receive and look after rings from the shell. A library so that others can be measured in the
//! same harness.

pub mod bench;
mod channel;
mod clean;
mod delivery;
pub mod ending;
mod framing;
mod input;
mod interrupts;
mod limits;
mod ls;
mod meter;
mod outlet;
mod output;
mod pipe;
mod quantity;
mod recv;
mod report;
mod send;
mod stat;
mod unlink;

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
    Bench(bench::BenchArguments),
    Send(send::SendArguments),
    Recv(recv::RecvArguments),
    Pipe(pipe::PipeArguments),
    Ls(ls::LsArguments),
    Stat(stat::StatArguments),
    Unlink(unlink::UnlinkArguments),
    Clean(clean::CleanArguments),
    Limits(limits::LimitsArguments),
}

/// What the program does.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Send(arguments) => send::run(&arguments),
        Verb::Recv(arguments) => recv::run(&arguments),
        Verb::Pipe(arguments) => pipe::run(&arguments),
        Verb::Ls(arguments) => ls::run(&arguments),
        Verb::Stat(arguments) => stat::run(&arguments),
        Verb::Unlink(arguments) => unlink::run(&arguments),
        Verb::Clean(arguments) => clean::run(&arguments),
        Verb::Limits(arguments) => limits::run(&arguments),
    };
    ending::exit_code(result)
}
