//! Points of time that two processes of one machine understand.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Nanoseconds of the monotonic clock; 0 is never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) const NEVER: Self = Self(0);

    pub(crate) fn after(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self::NEVER, |timeout| {
            Self(now_ns().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)))
        })
    }

    pub(crate) fn from_ns(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    pub(crate) fn as_ns(self) -> u64 {
        self.0
    }

    /// What is left; `None` when it never comes.
    pub(crate) fn remaining(self) -> Option<Duration> {
        (self != Self::NEVER).then(|| Duration::from_nanos(self.0.saturating_sub(now_ns())))
    }

    pub(crate) fn passed(self) -> bool {
        self != Self::NEVER && now_ns() >= self.0
    }

    /// The same on this process's clock; a point too far away for it is never.
    pub(crate) fn instant(self) -> Option<Instant> {
        self.remaining().and_then(|left| Instant::now().checked_add(left))
    }

    pub(crate) fn or_after(self, timeout: Duration) -> Self {
        let other = Self::after(Some(timeout));
        if self == Self::NEVER || other.0 < self.0 { other } else { self }
    }
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
