//! Random numbers from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

/// A number that nobody can guess.
pub(crate) fn number() -> u64 {
    let mut bytes = [0; 8];
    loop {
        // Up to 256 bytes come whole; only a signal before the first can interrupt.
        if getrandom(&mut bytes, GetRandomFlags::empty()) == Ok(bytes.len()) {
            return u64::from_ne_bytes(bytes);
        }
    }
}
