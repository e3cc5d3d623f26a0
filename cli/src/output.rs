//! Standard output: data only, and a reader that leaves ends the command quietly.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
};

use anyhow::{Context, Result};

use crate::ending::Ending;

/// Writes `text` to standard output and flushes it.
pub fn print(text: &str) -> Result<()> {
    match open().and_then(|mut out| out.write_all(text.as_bytes())) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Ending::StdoutClosed.into()),
        other => other.context("cannot write to standard output"),
    }
}

/// Standard output, past the buffer of the standard library; an error when it was closed.
pub fn open() -> io::Result<File> {
    let output: File = io::stdout().as_fd().try_clone_to_owned()?.into();
    if was_closed(&output) {
        return Err(io::Error::other("it is closed"));
    }
    Ok(output)
}

/// Whether the descriptor was closed when the program started: the runtime then puts /dev/null in its place, open for
/// reading and writing, which `>/dev/null` is not.
fn was_closed(output: &File) -> bool {
    let is_null = |null: fs::Metadata| output.metadata().is_ok_and(|own| own.rdev() == null.rdev());
    let flags = fs::read_to_string(format!("/proc/self/fdinfo/{}", output.as_raw_fd())).unwrap_or_default();
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
    let read_and_write = flags.trim().ends_with('2');
    read_and_write && fs::metadata("/dev/null").is_ok_and(is_null)
}
