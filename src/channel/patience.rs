//! How long a call may wait.

use crate::sys::clock::Deadline;
use std::time::{Duration, Instant};

/// How long a call may wait. It reads no clock: whoever finds at once what it came for needs none. By reference where each message
/// passes: as a value it would be put together on the stack for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    None,
    /// So long, from when it begins to wait.
    For(Duration),
    Until(Instant),
    Endless,
}

impl Patience {
    #[inline(always)]
    pub(super) fn waits(self) -> bool {
        !matches!(self, Self::None)
    }

    /// The same for a call that waits more than once: all together as long as one.
    pub(super) fn begun(self) -> Self {
        match self {
            Self::For(timeout) => Instant::now().checked_add(timeout).map_or(Self::Endless, Self::Until),
            other => other,
        }
    }

    /// Until when, for who begins to wait now; without end where there is none.
    pub(super) fn deadline(self) -> Option<Deadline> {
        match self {
            Self::None => Some(Deadline::after(Duration::ZERO)),
            Self::For(timeout) => Some(Deadline::after(timeout)),
            Self::Until(deadline) => Some(Deadline::at(deadline)),
            Self::Endless => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_begun_does_not_begin_anew() {
        let begun = Patience::For(Duration::from_millis(1)).begun();
        let Patience::Until(deadline) = begun else { panic!("{begun:?}") };
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(begun.begun(), Patience::Until(deadline));
        assert!(begun.deadline().is_some_and(Deadline::passed));
        assert!(!Patience::For(Duration::from_secs(3600)).deadline().is_some_and(Deadline::passed));
    }

    #[test]
    fn more_time_than_there_is_has_no_end() {
        assert_eq!(Patience::For(Duration::MAX).begun(), Patience::Endless);
        assert!(Patience::For(Duration::MAX).deadline().is_none_or(|deadline| !deadline.passed()));
    }
}
