//! `ringpost unlink`: takes names away.

use anyhow::Result;
use clap::Args;

use crate::{channel::Directory, ending};

/// Remove rings by name
///
/// Who has one open goes on using it; its memory is freed when the last one closes.
#[derive(Args, Debug)]
#[command(after_help = ending::EXIT_CODES)]
pub struct UnlinkArguments {
    /// Names of the rings
    #[arg(required = true)]
    names: Vec<String>,

    #[command(flatten)]
    directory: Directory,
}

/// Removes all that can be, and tells what could not be.
pub fn run(arguments: &UnlinkArguments) -> Result<()> {
    let mut result = Ok(());
    for name in &arguments.names {
        if let Err(error) = arguments.directory.builder(name)?.unlink() {
            ending::fail_at_the_end(&mut result, arguments.directory.about(name, error));
        }
    }
    result
}
