//! Deadlines on the monotonic clock: absolute, so that a signal or a spurious wake never prolongs a wait.

use std::time::{Duration, Instant};

use rustix::thread::futex::Timespec;
use rustix::time::{ClockId, clock_gettime};

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// Absolute point on `CLOCK_MONOTONIC`, which no change of the wall clock moves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Deadline {
    /// Since the clock's origin; `u64::MAX` lies 584 years ahead and stands for never.
    nanoseconds: u64,
}

impl Deadline {
    /// The point `wait` from now; one too far away to be told becomes the farthest there is.
    pub(crate) fn after(wait: Duration) -> Self {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self { nanoseconds: now().saturating_add(wait) }
    }

    /// The point that `instant` names; one that has passed becomes now.
    pub(crate) fn at(instant: Instant) -> Self {
        Self::after(instant.saturating_duration_since(Instant::now()))
    }

    /// Whether the point is reached.
    pub(crate) fn passed(self) -> bool {
        now() >= self.nanoseconds
    }

    /// How long it is until then.
    pub(crate) fn remaining(self) -> Duration {
        Duration::from_nanos(self.nanoseconds.saturating_sub(now()))
    }

    /// As the kernel takes it.
    pub(super) fn timespec(self) -> Timespec {
        Timespec {
            tv_sec: (self.nanoseconds / NANOSECONDS_PER_SECOND) as _,
            tv_nsec: (self.nanoseconds % NANOSECONDS_PER_SECOND) as _,
        }
    }
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The monotonic clock starts at zero when the machine boots: neither part is negative.
    now.tv_sec as u64 * NANOSECONDS_PER_SECOND + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn now_has_passed_and_an_hour_ahead_has_not() {
        assert!(Deadline::after(Duration::ZERO).passed());
        assert!(Deadline::at(Instant::now()).passed());
        assert!(!Deadline::after(HOUR).passed());
        assert!(!Deadline::at(Instant::now() + HOUR).passed());
    }

    #[test]
    fn an_instant_in_the_past_has_passed() {
        let past = Instant::now();
        let deadline = Deadline::after(Duration::ZERO);
        assert!(Deadline::at(past).passed());
        assert!(Deadline::at(past) >= deadline, "a passed instant becomes now, not an underflow");
    }

    #[test]
    fn the_longest_wait_saturates_to_a_valid_time() {
        let never = Deadline::after(Duration::MAX);
        assert_eq!(never.nanoseconds, u64::MAX);
        assert!(!never.passed());
        let timespec = never.timespec();
        assert!(timespec.tv_sec > 0);
        assert!((0..1_000_000_000).contains(&timespec.tv_nsec));
    }

    #[test]
    fn deadlines_are_ordered_by_time() {
        assert!(Deadline::after(Duration::ZERO) < Deadline::after(HOUR));
    }
}
