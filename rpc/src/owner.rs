//! The process of a session, so that what a dead one leaves can be told.

use std::fs;
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
        let known = start_ticks(pid).map(|start_ticks| Self { pid: pid.into(), start_ticks });
        known.unwrap_or_default()
    }

    /// Whether it is proven that it is gone.
    pub(crate) fn is_dead(self) -> bool {
        self != Self::default() && Self::of(self.pid as u32) != self
    }
}

/// Field 22 of `/proc/<pid>/stat`; the second one is in brackets and may hold anything.
fn start_ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
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
    }
}
