//! One file for each family of mechanisms.

pub mod descriptor;
pub mod eventfd;
pub mod limits;
pub mod mailbox;
pub mod pipe;
pub mod posix_mq;
pub mod rendezvous;
pub mod ring;
pub mod semaphore;
pub mod slots;
pub mod socket;
pub mod stream;
pub mod sysv;
pub mod turns;

use std::path::Path;

/// A whole number out of `/proc/sys`.
pub fn kernel_limit(path: &str) -> Option<usize> {
    std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().parse().ok()
}

/// Says that `size` is more than the limit in `/proc/sys/{path}` lets pass.
pub fn above(size: usize, path: &str, limit: usize) -> String {
    format!("a message of {size} bytes is above the limit /proc/sys/{path} = {limit}")
}
