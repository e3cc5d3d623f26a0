//! Points of time that two processes of one machine understand.

use rustix::time::{ClockId, clock_gettime};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Nanoseconds of the monotonic clock; 0 is never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) const NEVER: Self = Self(0);

    pub(crate) fn now() -> Self {
        Self(now_ns())
    }

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

    /// Nanoseconds since then; for what never was, the most there can be.
    pub(crate) fn age_ns(self) -> u64 {
        if self == Self::NEVER { u64::MAX } else { now_ns().saturating_sub(self.0) }
    }

    pub(crate) fn passed(self) -> bool {
        self != Self::NEVER && now_ns() >= self.0
    }

    /// The same on this process's clock; a point too far away for it is never.
    pub(crate) fn instant(self) -> Option<Instant> {
        self.remaining().and_then(|left| Instant::now().checked_add(left))
    }

    /// This, or after so long a time when it is never.
    pub(crate) fn or_after(self, timeout: Duration) -> Self {
        if self == Self::NEVER { Self::after(Some(timeout)) } else { self }
    }
}

/// What is waited between two attempts to find the successor of a lost server: longer each time, up to a bound.
pub(crate) struct Pause(Duration);

impl Pause {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(50);

    /// Sleeps, until the deadline at most. False when that has passed before.
    pub(crate) fn rest(&mut self, deadline: Deadline) -> bool {
        let left = deadline.remaining().unwrap_or(self.0);
        thread::sleep(self.0.min(left));
        self.0 = (self.0 * 2).min(Self::LONGEST);
        !left.is_zero()
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self(Self::FIRST)
    }
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_deadline_has_as_much_patience() {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let deadline = Deadline::after(Some(hour));
        assert_eq!(deadline.or_after(second), deadline);
        assert!(Deadline::NEVER.or_after(second).remaining().unwrap() <= second);
    }

    #[test]
    fn what_never_was_is_as_long_ago_as_can_be_said_and_what_is_to_come_is_not() {
        assert_eq!(Deadline::NEVER.age_ns(), u64::MAX);
        assert_eq!(Deadline::after(Some(Duration::from_secs(3600))).age_ns(), 0);
        assert!(Deadline::from_ns(1).age_ns() < u64::MAX);
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_end_with_the_deadline() {
        let mut pause = Pause::default();
        let mut all = Vec::new();
        let ended = Deadline::from_ns(1);
        (0..9).for_each(|_| {
            all.push(pause.0.as_millis());
            assert!(!pause.rest(ended));
        });
        assert_eq!(all, [1, 2, 4, 8, 16, 32, 50, 50, 50]);
        assert!(Pause::default().rest(Deadline::NEVER));
    }
}
