//! Sleep until another thread or process changes a word.
//!
//! A wait reads its word only, so the word may lie in a page that this process maps read-only.

use core::iter;
use core::num::NonZeroU32;
use core::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::futex::{Flags, Wait, WaitFlags, WaitPtr, WaitvFlags, wait_bitset, waitv, wake};
use rustix::time::ClockId;

use super::clock::Deadline;

/// Who may wait on a word. Both sides must name the same: a wake in one scope doesn't reach a sleeper in the
/// other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Any process that maps the word.
    Shared,
    /// The threads of this process.
    Private,
}

/// Why a wait returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waited {
    /// By a wake, because the word had another value, or by a signal: look again.
    Woken,
    /// The deadline has passed.
    TimedOut,
}

/// A wake reaches every bit, so a waiter must have one.
const ANY_WAKE: NonZeroU32 = NonZeroU32::MAX;

/// Sleeps while `word` is `expected`, until woken or until `deadline`. May return `Woken` early; callers loop
/// with the same deadline.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Option<Deadline>, scope: Scope) -> Waited {
    let flags = match (scope, deadline) {
        (Scope::Shared, _) => Flags::empty(),
        (Scope::Private, Some(_)) => Flags::PRIVATE,
        (Scope::Private, None) => {
            atomic_wait::wait(word, expected);
            return Waited::Woken;
        }
    };
    // Unlike FUTEX_WAIT, FUTEX_WAIT_BITSET takes an absolute time, on the monotonic clock.
    let timeout = deadline.map(Deadline::timespec);
    match wait_bitset(word, flags, expected, timeout.as_ref(), ANY_WAKE) {
        Err(Errno::TIMEDOUT) => Waited::TimedOut,
        // AGAIN: another value; INTR: a signal. Nothing else can come of a valid word and time.
        _ => Waited::Woken,
    }
}

/// Most words that one sleep can watch.
pub(crate) const MOST_WATCHED: usize = 128;

/// Sleeps while `word` is `expected` and each of the `others` has the value beside it ([`MOST_WATCHED`] words at most),
/// until one of them is woken or until `deadline`. May return early. Between processes only.
///
/// False, without having slept, where the kernel has no such call (before 5.16).
pub(crate) fn wait_any(
    word: &AtomicU32,
    expected: u32,
    others: &[(&AtomicU32, u32)],
    deadline: Option<Deadline>,
) -> bool {
    let all = iter::once((word, expected)).chain(others.iter().copied());
    wait_for(all.map(|(word, expected)| (word, expected, Scope::Shared)), deadline)
}

/// Sleeps while each of the `words` ([`MOST_WATCHED`] at most) has the value beside it, as [`wait_any`].
pub(crate) fn wait_for_any(words: &[(&AtomicU32, u32, Scope)], deadline: Option<Deadline>) -> bool {
    wait_for(words.iter().copied(), deadline)
}

fn wait_for<'w>(
    words: impl Iterator<Item = (&'w AtomicU32, u32, Scope)>,
    deadline: Option<Deadline>,
) -> bool {
    let waiters = words.map(|(word, expected, scope)| {
        let mut waiter = Wait::new();
        waiter.val = expected.into();
        waiter.uaddr = WaitPtr::new(word.as_ptr().cast());
        waiter.flags = WaitFlags::SIZE_U32;
        if scope == Scope::Private {
            waiter.flags |= WaitFlags::PRIVATE;
        }
        waiter
    });
    let waiters: Vec<Wait> = waiters.collect();
    let timeout = deadline.map(Deadline::timespec);
    let slept = waitv(&waiters, WaitvFlags::empty(), timeout.as_ref(), ClockId::Monotonic);
    !matches!(slept, Err(Errno::NOSYS | Errno::PERM | Errno::INVAL))
}

/// Wakes the one who has slept longest on `word` in this scope. False when nobody did.
pub(crate) fn wake_one(word: &AtomicU32, scope: Scope) -> bool {
    // `atomic_wait` does not tell whether it has woken anybody.
    let flags = match scope {
        Scope::Shared => Flags::empty(),
        Scope::Private => Flags::PRIVATE,
    };
    // It can't fail for a word that is mapped.
    wake(word, flags, 1) != Ok(0)
}

/// Wakes everybody who sleeps on `word` in this scope.
pub(crate) fn wake_all(word: &AtomicU32, scope: Scope) {
    match scope {
        Scope::Shared => {
            // It can't fail for a word that is mapped.
            let _ = wake(word, Flags::empty(), i32::MAX as u32);
        }
        Scope::Private => atomic_wait::wake_all(word),
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Shared futexes are a matter between processes, which Miri doesn't model.
    const SCOPES: &[Scope] = if cfg!(miri) { &[Scope::Private] } else { &[Scope::Shared, Scope::Private] };

    /// Far enough that only a lost wake reaches it.
    fn far() -> Option<Deadline> {
        Some(Deadline::after(Duration::from_secs(60)))
    }

    /// One thread sleeps on `sleeper`, whose value stays 0, while this one wakes `waker` until it has
    /// returned.
    fn sleep_and_wake(sleeper: &AtomicU32, waker: &AtomicU32, deadline: Option<Deadline>, scope: Scope) {
        let done = AtomicBool::new(false);
        thread::scope(|threads| {
            threads.spawn(|| {
                assert_eq!(wait(sleeper, 0, deadline, scope), Waited::Woken);
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                wake_all(waker, scope);
                thread::yield_now();
            }
        });
    }

    #[test]
    fn another_value_does_not_sleep() {
        for &scope in SCOPES {
            assert_eq!(wait(&AtomicU32::new(1), 0, None, scope), Waited::Woken);
            assert_eq!(wait(&AtomicU32::new(1), 0, far(), scope), Waited::Woken);
        }
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_not_before() {
        for &scope in SCOPES {
            let deadline = Deadline::after(Duration::from_millis(5));
            let word = AtomicU32::new(7);
            // A signal may end a wait early, as for every caller.
            while wait(&word, 7, Some(deadline), scope) == Waited::Woken {}
            assert!(deadline.passed());
        }
    }

    #[test]
    fn a_deadline_in_the_past_does_not_sleep() {
        for &scope in SCOPES {
            let past = Deadline::after(Duration::ZERO);
            assert_eq!(wait(&AtomicU32::new(0), 0, Some(past), scope), Waited::TimedOut);
        }
    }

    #[test]
    fn a_wake_ends_a_wait_with_and_without_a_deadline() {
        for &scope in SCOPES {
            let word = AtomicU32::new(0);
            sleep_and_wake(&word, &word, None, scope);
            sleep_and_wake(&word, &word, far(), scope);
            sleep_and_wake(&word, &word, Some(Deadline::after(Duration::MAX)), scope);
        }
    }

    #[test]
    fn who_wakes_one_is_told_whether_there_was_one() {
        for &scope in SCOPES {
            let word = AtomicU32::new(0);
            assert!(!wake_one(&word, scope));
            thread::scope(|threads| {
                let sleeper = threads.spawn(|| wait(&word, 0, far(), scope));
                while !wake_one(&word, scope) {
                    assert!(!sleeper.is_finished());
                    thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn one_wake_reaches_every_sleeper() {
        for &scope in SCOPES {
            let word = AtomicU32::new(0);
            thread::scope(|threads| {
                for _ in 0..3 {
                    threads.spawn(|| {
                        while wait(&word, 0, None, scope) == Waited::Woken
                            && word.load(Ordering::Relaxed) == 0
                        {}
                    });
                }
                word.store(1, Ordering::Relaxed);
                wake_all(&word, scope);
            });
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn a_wake_through_one_mapping_reaches_a_sleeper_at_another_that_is_read_only() {
        use memmap2::MmapOptions;
        use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

        let file = memfd_create("futex", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 4).unwrap();
        let writable = MmapOptions::new().len(4).map_raw(&file).unwrap();
        let readable = MmapOptions::new().len(4).map_raw_read_only(&file).unwrap();
        // SAFETY: both mappings are page-aligned, at least 4 bytes long and outlive these references; only
        // atomic loads, and the kernel's, go through the one that is read-only.
        let (writable, readable) = unsafe {
            (
                AtomicU32::from_ptr(writable.as_mut_ptr().cast()),
                AtomicU32::from_ptr(readable.as_mut_ptr().cast()),
            )
        };
        assert!(!core::ptr::eq(writable, readable));
        sleep_and_wake(readable, writable, None, Scope::Shared);
        sleep_and_wake(readable, writable, far(), Scope::Shared);
    }
}
