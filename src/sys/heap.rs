//! Memory for a ring inside one process.

use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Zeroed memory; freed on drop.
#[derive(Debug)]
pub(crate) struct Heap {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory belongs to this value alone and to no thread.
unsafe impl Send for Heap {}
// SAFETY: a shared `Heap` gives away nothing but an address that never changes.
unsafe impl Sync for Heap {}

impl Heap {
    /// `None` when there is not so much. Aligned to 4096 bytes.
    pub(crate) fn zeroed(length: usize) -> Option<Self> {
        let layout = Layout::from_size_align(length, 4096).ok().filter(|layout| layout.size() > 0)?;
        // SAFETY: the layout has a size.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { base, layout })
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and freed here only.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}
