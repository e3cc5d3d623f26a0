//! A bounded buffer of equal slots in shared memory, for the mechanisms that only need somebody to count.

use anyhow::Result;

use crate::bench::memory::SharedMemory;
use crate::bench::payload::LARGEST;

const AREA: usize = 2 * LARGEST;
const MOST: usize = 256;

/// The slots; who may touch which one is up to the mechanism.
pub struct Slots {
    memory: SharedMemory,
}

/// The slots as they are cut for one size of message.
#[derive(Clone, Copy)]
pub struct Cut {
    stride: usize,
    /// How many there are.
    pub count: usize,
}

impl Slots {
    /// Two mebibytes.
    pub fn new() -> Result<Self> {
        Ok(Self { memory: SharedMemory::new(AREA)? })
    }

    /// Cuts the area for messages of `size` bytes, each on cache lines of its own.
    pub fn cut(size: usize) -> Cut {
        let stride = size.next_multiple_of(64);
        Cut { stride, count: (AREA / stride).clamp(2, MOST) }
    }

    /// The first `size` bytes of slot `turn % count`.
    ///
    /// # Safety
    /// Until the slice is gone no other process and no other slice may use this slot.
    #[expect(clippy::mut_from_ref, reason = "exclusive by the contract above")]
    pub unsafe fn slot(&self, cut: Cut, turn: usize, size: usize) -> &mut [u8] {
        let offset = turn % cut.count * cut.stride;
        assert!(size <= cut.stride && offset + size <= self.memory.size());
        // SAFETY: in bounds by the assertion; exclusive by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.memory.base().as_ptr().add(offset), size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_lie_inside_and_apart() {
        for size in [8, 64, 100, 4096, 65536, LARGEST] {
            let cut = Slots::cut(size);
            assert!(cut.count >= 2 && cut.stride >= size && cut.count * cut.stride <= AREA, "{size}");
        }
    }
}
