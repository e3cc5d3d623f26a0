//! The program `ringpost-bridge`: carries the messages of a local ring to an MQTT topic, and back.

mod broker;
mod ending;
mod local;
mod news;
mod publish;
mod subscribe;
mod watched;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Carries the messages of a local ring to an MQTT topic, and back.
///
/// On machine A, `ringpost-bridge out` receives from a ring and publishes; on machine B, `ringpost-bridge in` subscribes
/// and sends into a ring there. The bytes and the boundaries of the messages are kept. The broker speaks MQTT 5.
#[derive(Parser)]
#[command(name = "ringpost-bridge", version, arg_required_else_help = true, after_help = ending::EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    direction: Direction,
}

#[derive(Subcommand)]
enum Direction {
    Out(publish::OutArguments),
    In(subscribe::InArguments),
}

fn main() -> ExitCode {
    ending::exit_code(run(&Arguments::parse().direction))
}

fn run(direction: &Direction) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't wait for the network")?;
    runtime.block_on(async {
        match direction {
            Direction::Out(arguments) => publish::run(arguments).await,
            Direction::In(arguments) => subscribe::run(arguments).await,
        }
    })
}
