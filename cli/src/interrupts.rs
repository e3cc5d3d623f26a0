//! The signals that ask for the end, and when they are heard.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
    ptr,
};

use anyhow::{Context, Result};
use nix::{
    libc,
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

/// SIGINT, SIGTERM and SIGHUP, held back, but for those that this process was started to ignore.
pub struct Interrupts {
    set: SigSet,
    pending: SignalFd,
}

impl Interrupts {
    /// In this thread, and in those that it starts from now on.
    pub fn hold_back() -> Result<Self> {
        let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
        let set: SigSet = ends.into_iter().filter(|&signal| !is_ignored(signal)).collect();
        let pending = set
            .thread_block()
            .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK));
        Ok(Self { set, pending: pending.context("can't hold signals back")? })
    }

    /// Lets them in while `wait` runs: then they end the process.
    pub fn let_in<T>(&self, wait: impl FnOnce() -> T) -> T {
        // Neither call can fail with a set of valid signals.
        let _ = self.set.thread_unblock();
        let result = wait();
        let _ = self.set.thread_block();
        result
    }

    /// Takes one that has come, if any has. Never blocks.
    pub fn take(&self) -> io::Result<Option<Signal>> {
        let taken = self.pending.read_signal()?;
        Ok(taken.and_then(|taken| Signal::try_from(taken.ssi_signo as i32).ok()))
    }
}

impl AsFd for Interrupts {
    /// Readable when one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pending.as_fd()
    }
}

/// Held back, an ignored signal would be heard after all.
fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set, and what is there is written to `action`, which is large enough for it.
    let asked = unsafe { libc::sigaction(signal as i32, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeros are a valid value already.
    asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
