//! What the kernel has of what is used here.

use core::sync::atomic::AtomicU32;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::futex::{self, Scope};

/// Whether it waits for several words at once.
pub(crate) fn futex_waitv() -> bool {
    // The word has another value, so that nobody sleeps.
    futex::wait_for_any(&[(&AtomicU32::new(0), 1, Scope::Private)], None)
}

/// Whether it tells by a descriptor that a process has ended.
pub(crate) fn pidfd() -> bool {
    pidfd_open(getpid(), PidfdFlags::empty()).is_ok()
}

/// Whether memory without a name can be sealed, against others' writes as well.
pub(crate) fn memfd_seals() -> bool {
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    let memory = memfd_create("ringpost-probe", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    memory.is_ok_and(|memory| fcntl_add_seals(&memory, seals).is_ok())
}
