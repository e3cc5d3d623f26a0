//! Loom's atomics, at each access of which the process that runs can be killed: it stops for good, and nothing of it is
//! undone or finished.

use loom::{cell::Cell, sync::atomic};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub(crate) use atomic::Ordering;
pub(crate) use loom::hint::spin_loop;

loom::thread_local! {
    /// Accesses that the running process may still make; `None` when it lives for ever.
    static LEFT: Cell<Option<u32>> = Cell::new(None);
}

struct Killed;

/// Runs `life` until it is about to make its access number `accesses`, counted from 0; false when it ended before.
pub(crate) fn killed_at(accesses: u32, life: impl FnOnce()) -> bool {
    LEFT.with(|left| left.set(Some(accesses)));
    let end = catch_unwind(AssertUnwindSafe(life));
    LEFT.with(|left| left.set(None));
    match end {
        Ok(()) => false,
        Err(reason) if reason.is::<Killed>() => true,
        Err(failure) => resume_unwind(failure),
    }
}

loom::lazy_static! {
    static ref TURNSTILE: atomic::AtomicUsize = atomic::AtomicUsize::new(0);
}

/// Makes each access depend on every other one, whatever the word, so that loom tries every order of them.
///
/// Left to itself loom leaves orders out that lead nowhere new, but of each word it remembers the last access only: that a
/// thread reads a word before it changes it hides from loom that another had read it before (loom 0.7.2,
/// `rt::atomic::State::last_access`). It is relaxed, so it orders nothing in the model's own eyes.
fn pass_turnstile() {
    TURNSTILE.fetch_add(1, Ordering::Relaxed);
}

/// Called first in every model: what it makes must not be made by one thread before another.
pub(crate) fn prepare() {
    pass_turnstile();
}

/// An access, or a system call, at which the process may be killed.
pub(crate) fn live_on() {
    let left = LEFT.with(|left| left.get());
    match left {
        None => {}
        Some(0) => resume_unwind(Box::new(Killed)),
        Some(more) => LEFT.with(|left| left.set(Some(more - 1))),
    }
    pass_turnstile();
}

pub(crate) fn fence(order: Ordering) {
    live_on();
    atomic::fence(order);
}

macro_rules! mortal {
    ($name:ident, $int:ty, [$($modify:ident)*], [$($exchange:ident)*]) => {
        #[derive(Debug)]
        pub(crate) struct $name(atomic::$name);

        impl $name {
            pub(crate) fn new(value: $int) -> Self {
                Self(atomic::$name::new(value))
            }

            /// As the kernel reads it.
            pub(crate) fn peek(&self) -> $int {
                pass_turnstile();
                self.0.load(Ordering::Relaxed)
            }

            pub(crate) fn load(&self, order: Ordering) -> $int {
                live_on();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $int, order: Ordering) {
                live_on();
                self.0.store(value, order);
            }

            $(pub(crate) fn $modify(&self, value: $int, order: Ordering) -> $int {
                live_on();
                self.0.$modify(value, order)
            })*

            $(pub(crate) fn $exchange(
                &self,
                seen: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                live_on();
                self.0.$exchange(seen, new, success, failure)
            })*
        }
    };
}

mortal!(AtomicU32, u32, [fetch_add fetch_sub], [compare_exchange]);
mortal!(AtomicU64, u64, [fetch_add fetch_and fetch_or], [compare_exchange compare_exchange_weak]);
