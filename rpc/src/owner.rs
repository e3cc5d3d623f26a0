//! The process of a session, so that what a dead one leaves can be told.

use std::{fs, io};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A process: no two agree in both. The default is one that is not known.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub(crate) struct Owner {
    pid: u64,
    /// When it started, in clock ticks since boot.
    start_ticks: u64,
}

impl Owner {
    /// The process that has this id now; the one that is not known, when there is none.
    pub(crate) fn of(pid: u32) -> Self {
        let known = stat(pid).ok().and_then(|text| start_ticks(&text));
        known.map(|start_ticks| Self { pid: pid.into(), start_ticks }).unwrap_or_default()
    }

    /// Whether it is proven that it is gone: there is no process of this id, or one that started at another time. Where the
    /// system does not answer, for want of descriptors say, nothing is proven.
    pub(crate) fn is_dead(self) -> bool {
        self != Self::default()
            && match stat(self.pid as u32) {
                Ok(text) => start_ticks(&text).is_some_and(|ticks| ticks != self.start_ticks),
                Err(error) => is_gone(&error) && stat(std::process::id()).is_ok(),
            }
    }
}

fn stat(pid: u32) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/stat"))
}

/// Whether the system says that there is no such process: now, or while it was read.
fn is_gone(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

/// Field 22 of `/proc/<pid>/stat`; the second one is in brackets and may hold anything.
fn start_ticks(text: &str) -> Option<u64> {
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_that_started_at_another_time_does_not() {
        let own = Owner::of(std::process::id());
        assert!(!own.is_dead());
        assert!(Owner { start_ticks: own.start_ticks + 1, ..own }.is_dead());
        assert!(!Owner::default().is_dead(), "nothing is known of it");
        assert!(is_gone(&stat(u32::MAX).unwrap_err()));
        assert!(!is_gone(&io::Error::from_raw_os_error(24)), "no descriptor left: nothing is proven");
    }
}
