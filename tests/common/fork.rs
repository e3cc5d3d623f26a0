//! Children that have inherited all there is, in the middle of this program.

use super::Line;
use rustix::process::{Pid, WaitOptions, waitpid};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `act` in a forked child, and waits for its end. Panics unless `act` has returned true.
///
/// The child drops nothing of its parent's but what `act` does.
#[track_caller]
pub fn assert_in_fork(act: impl FnMut() -> bool) {
    // SAFETY: the child takes no lock but the allocator's, which fork(3) leaves usable, and ends without returning.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: sets a timer of the child, whose signal ends it when it hangs.
        unsafe { libc::alarm(60) };
        let is_good = catch_unwind(AssertUnwindSafe(act)).unwrap_or(false);
        // SAFETY: ends the child at once, without any clean-up that is the parent's.
        unsafe { libc::_exit(i32::from(!is_good)) };
    }
    let (_, status) = waitpid(Some(Pid::from_raw(child).unwrap()), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0), "the forked child");
}

/// Leaves a child of this process that has inherited all there is, and sleeps until it is killed; gives its id.
pub fn leave_an_heir() -> u64 {
    // SAFETY: the child only sleeps, and ends when it is killed.
    match unsafe { libc::fork() } {
        0 => loop {
            std::thread::park();
        },
        heir => heir as u64,
    }
}

/// Leaves a child of this process that has inherited all there is, and says what it hears until nobody is left to say something.
pub fn leave_an_echo(line: &Line) {
    // SAFETY: the child reads and writes, takes no lock, and ends without returning.
    if unsafe { libc::fork() } == 0 {
        while let Some(number) = line.next() {
            line.tell(number);
        }
        // SAFETY: ends the child at once, without any clean-up that is the parent's.
        unsafe { libc::_exit(0) };
    }
}
