//! Sleeping on a word that processes share, and waking who sleeps there.

use std::sync::atomic::AtomicU32;

/// Sleeps while the word is `value`, at most until it is woken. It may return early: the caller looks again.
#[inline]
pub fn sleep(word: &AtomicU32, value: u32) {
    // SAFETY: the word is alive, and FUTEX_WAIT with a null time-out reads only it. Whatever the outcome, the caller
    // looks again.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            value,
            std::ptr::null::<libc::timespec>(),
        )
    };
}

/// Wakes one that sleeps on the word.
#[inline]
pub fn wake(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE only takes the address of a live word as a key; it reads and writes no memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}
