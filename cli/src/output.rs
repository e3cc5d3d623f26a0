//! Standard output: data only, and a reader that leaves ends the command quietly.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

use crate::ending::Ending;

/// Writes `text` to standard output and flushes it.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Ending::StdoutClosed.into()),
        other => other.context("cannot write to standard output"),
    }
}
