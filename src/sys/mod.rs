//! The operating system: the only module that makes system calls.
//!
//! Nothing here knows the protocol. It offers time, sleep, a fence that spans processes, proof of a process's
//! death, and memory; what they are used for is decided above.

pub(crate) mod barrier;
pub(crate) mod clock;
pub(crate) mod errno;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod heap;
pub(crate) mod peer;
pub(crate) mod pidfd;
pub(crate) mod poll;
pub(crate) mod porter;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod segment;
pub(crate) mod socket;
pub(crate) mod support;
#[cfg(all(test, not(miri)))]
mod testing;
pub(crate) mod watch;
