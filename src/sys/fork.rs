//! Noticing that a handle was inherited by a forked child, without a system call.
//!
//! A page of this process is emptied by the kernel in a forked child (`MADV_WIPEONFORK`). A handle remembers the number
//! that stood there when it was made.

use core::{
    ffi::c_void,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering::*},
};
use std::sync::OnceLock;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::mm::{Advice, madvise};

/// The process that made a handle, told apart from its children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generation {
    page: &'static AtomicU32,
    number: u32,
}

impl Generation {
    /// The present one.
    pub(crate) fn current() -> Self {
        static PAGE: OnceLock<&'static AtomicU32> = OnceLock::new();
        /// Copied to a child, so that its generations have other numbers than its parent's.
        static LAST: AtomicU32 = AtomicU32::new(0);
        let page =
            *PAGE.get_or_init(|| wiped_on_fork().unwrap_or_else(|| Box::leak(Box::new(AtomicU32::new(0)))));
        // ORDERING: Relaxed, of one process; the numbers guard nothing else.
        if page.load(Relaxed) == 0 {
            let next = LAST.fetch_add(1, Relaxed) + 1;
            // Another thread may have been first.
            let _ = page.compare_exchange(0, next, Relaxed, Relaxed);
        }
        // ORDERING: Relaxed, as above.
        Self { page, number: page.load(Relaxed) }
    }

    /// Whether this is still the process that made the handle.
    #[inline]
    pub(crate) fn lasts(self) -> bool {
        // ORDERING: Relaxed, of one process; the kernel changes it in a child before that runs.
        self.page.load(Relaxed) == self.number
    }
}

/// A page that is zero in a forked child; `None` where the kernel can't (before 4.14): then a fork goes unnoticed.
fn wiped_on_fork() -> Option<&'static AtomicU32> {
    if cfg!(miri) {
        return None;
    }
    let length = NonZeroUsize::new(rustix::param::page_size())?;
    let (access, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let page: NonNull<c_void> = unsafe { mmap_anonymous(None, length, access, flags) }.ok()?;
    // SAFETY: the page was just mapped, and nobody else knows of it.
    unsafe { madvise(page.as_ptr(), length.get(), Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: zeroed, aligned to a page, and never unmapped.
    Some(unsafe { page.cast().as_ref() })
}
