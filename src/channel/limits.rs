//! How large, how long and how many: every limit of this library, as a constant. What is beyond one is refused with an error
//! that names it.
//!
//! ```
//! use ringpost::{OpenError, limits, unnamed};
//! let beyond = unnamed().mailbox(8).priorities(limits::PRIORITIES + 1).memfd();
//! assert!(matches!(beyond, Err(OpenError::Setting { most, .. }) if most == u64::from(limits::PRIORITIES)));
//! ```

use super::builder;
use crate::{
    header, layout,
    ring::{
        mailbox,
        position::{Geometry, HEADER_UNITS, UNIT},
    },
    sys::{barrier, process, support},
    wait,
};

/// Bytes of the largest data area of a ring.
pub const LARGEST_CAPACITY: u64 = header::MOST_CAPACITY;
/// Bytes of the data area of a ring whose builder does not say.
pub const DEFAULT_CAPACITY: u64 = builder::DEFAULT_CAPACITY;
/// Bytes of the smallest ceiling of an elastic ring.
pub const SMALLEST_CEILING: u64 = header::LEAST_CEILING;
/// Bytes that a message takes beside its own, before both are rounded up to [`UNIT_BYTES`].
pub const MESSAGE_OVERHEAD: u64 = HEADER_UNITS * UNIT;
/// What a message takes is a multiple of so many bytes.
pub const UNIT_BYTES: u64 = UNIT;
/// Bytes of the longest message of the largest ring, and of a mailbox; [`longest_message`] says that of any ring.
pub const LONGEST_MESSAGE: u64 = longest_message(LARGEST_CAPACITY);
/// Bytes of the longest name of a ring.
pub const LONGEST_NAME: usize = builder::LONGEST_NAME;
/// Kinds that a message can be of.
pub const KINDS: u32 = u16::MAX as u32 + 1;
/// Most senders of a ring at a time.
pub const SENDERS: u8 = layout::MOST_SLOTS;
/// Most readers of a broadcast at a time for which its sender waits.
pub const READERS: u8 = layout::MOST_SLOTS;
/// Most handles at a mailbox at a time.
pub const SEATS: u8 = mailbox::MOST_SEATS;
/// Most priorities of a mailbox.
pub const PRIORITIES: u8 = mailbox::MOST_LEVELS;
/// Most messages of a mailbox.
pub const MAILBOX_MESSAGES: u32 = mailbox::MOST_CELLS;
/// Most rings that [`Lanes`](crate::Lanes) or [`Select`](crate::Select) wait for at once; a [`Dispatcher`](crate::Dispatcher) waits for
/// one less, and for its `stop`.
pub const LANES: usize = wait::MOST_BELLS;

/// Reads a number of bytes as people write it: `65536`, or with K, M, G or T behind it, also as KiB and so on, for powers of 1024.
///
/// ```
/// assert_eq!(ringpost::limits::parse_bytes("1T"), Ok(ringpost::limits::LARGEST_CAPACITY));
/// ```
///
/// # Errors
/// What would be right.
pub fn parse_bytes(text: &str) -> Result<u64, &'static str> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        _ => return Err("the unit of bytes is K, M, G or T, also KiB and so on, for powers of 1024"),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("it must be a whole number of bytes, such as 65536 or 64K");
    }
    let number: Option<u64> = digits.parse().ok();
    number.and_then(|number| number.checked_mul(1 << shift)).ok_or("this is more than there can be")
}

/// Bytes of the smallest data area of a ring that processes share: at least a page.
pub fn smallest_capacity() -> u64 {
    header::LEAST_CAPACITY.max(process::page_bytes() as u64)
}

/// Bytes of the longest message of a ring of this capacity, a power of two, that processes share and that is neither elastic nor checksummed.
///
/// # Panics
/// When it is no power of two, or below 64.
pub const fn longest_message(capacity: u64) -> u64 {
    Geometry::new(capacity, true).longest_payload()
}

/// What the kernel has, asked by trying. What is missing is made up for, more slowly, or refused by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Kernel {
    /// Sleeps on several words at once (`futex_waitv`, Linux 5.16). Without it a wait for several rings looks every millisecond.
    pub futex_waitv: bool,
    /// Fences for all processes at once (`membarrier`, Linux 4.16). Without it each send costs a fence.
    pub membarrier: bool,
    /// Tells by a descriptor that a process has ended (`pidfd_open`, Linux 5.3). Without it there are no links.
    pub pidfd: bool,
    /// Memory without a name that others can't write, shrink or grow (`memfd_create`, `F_SEAL_FUTURE_WRITE`, Linux 5.1). Without it
    /// there are no links, regions or rings without a name.
    pub memfd_seals: bool,
}

/// What the kernel has. A few system calls; never blocks. What is missing for want of descriptors looks missing.
pub fn kernel() -> Kernel {
    Kernel {
        futex_waitv: support::futex_waitv(),
        membarrier: barrier::register(),
        pidfd: support::pidfd(),
        memfd_seals: support::memfd_seals(),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn bytes_take_a_binary_unit() {
        assert_eq!((parse_bytes("0"), parse_bytes("4096")), (Ok(0), Ok(4096)));
        for (shift, units) in [(10, ["K", "k", "KiB"]), (20, ["M", "m", "MiB"]), (30, ["G", "g", "gib"])] {
            for unit in units {
                assert_eq!(parse_bytes(&format!("3{unit}")), Ok(3 << shift), "{unit}");
            }
        }
        assert_eq!((parse_bytes("1T"), parse_bytes("2TiB")), (Ok(1 << 40), Ok(2 << 40)));
        for wrong in
            ["", "K", "-1", "+1", "1.5M", "1P", "1KB", "16777216T", "99999999999999999999", "64 K", "1µ"]
        {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
