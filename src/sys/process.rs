//! What the calling process is, and what it passes on.

use super::segment::SegmentError;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rustix::process::{Signal, getpid, kill_process};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

/// A number that this process has not given before.
pub(crate) fn unique_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // ORDERING: Relaxed, of one process; each exchange takes another number, and nothing else is told by it.
    NEXT.fetch_add(1, Relaxed)
}

/// Bytes of a memory page.
pub(crate) fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// The user whose rights this process has.
pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A copy of `fd` that stays open over exec.
pub(crate) fn inheritable(fd: BorrowedFd<'_>) -> Result<OwnedFd, SegmentError> {
    rustix::io::dup(fd).map_err(|errno| SegmentError::os("copy the descriptor", errno))
}

/// The signals of the process are for its other threads.
pub(crate) fn block_signals() {
    let _ = nix::sys::signal::SigSet::all().thread_block();
}

/// Whether a signal has this number.
pub(crate) fn is_signal(number: i32) -> bool {
    Signal::from_named_raw(number).is_some()
}

/// Sends a signal to this process.
pub(crate) fn signal_self(number: i32) -> io::Result<()> {
    let signal = Signal::from_named_raw(number).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(getpid(), signal)?)
}
