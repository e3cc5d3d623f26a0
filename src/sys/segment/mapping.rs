//! A ring's memory in this process: the control area, and the data area twice back to back.
//!
//! Nobody makes a Rust reference to plain data in here, because another process may write to it at any time.
//! Only addresses leave this file.

use core::ffi::c_void;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use std::fs::File;

use memmap2::{MmapOptions, MmapRaw};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::io::Errno;

use super::SegmentError;

/// The memory of a ring; unmapped on drop.
///
/// Bytes `capacity..2 * capacity` behind [`data`](Self::data) are the same memory as bytes `0..capacity`, so
/// a record that begins before the end of the area always lies in one piece.
#[derive(Debug)]
pub(crate) struct Mapping {
    control: MmapRaw,
    data: Mirror,
}

impl Mapping {
    /// Maps `file[..control_len]` and `file[control_len..][..capacity]`, both whole pages and inside the
    /// file.
    pub(super) fn new(file: &File, control_len: usize, capacity: NonZeroUsize) -> Result<Self, SegmentError> {
        let control = MmapOptions::new().len(control_len).populate().map_raw(file).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
            SegmentError::memory("map the control area", control_len as u64, errno)
        })?;
        Ok(Self { control, data: Mirror::new(file, control_len, capacity)? })
    }

    /// Start of the control area, at a page boundary.
    pub(crate) fn control(&self) -> NonNull<u8> {
        NonNull::new(self.control.as_mut_ptr()).expect("a mapping is never at address 0")
    }

    /// Size of the control area in bytes.
    #[cfg(test)]
    pub(crate) fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Start of the data area, at a page boundary.
    pub(crate) fn data(&self) -> NonNull<u8> {
        self.data.base.cast()
    }
}

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// One part of a file, mapped twice back to back.
#[derive(Debug)]
struct Mirror {
    base: NonNull<c_void>,
    capacity: NonZeroUsize,
}

// SAFETY: the address range belongs to this value alone and to no thread; it's unmapped by whichever thread
// drops it.
unsafe impl Send for Mirror {}
// SAFETY: a shared `Mirror` gives away nothing but an address that never changes.
unsafe impl Sync for Mirror {}

impl Mirror {
    fn new(file: &File, offset: usize, capacity: NonZeroUsize) -> Result<Self, SegmentError> {
        let fail = |operation| {
            move |errno: nix::Error| {
                let bytes = 2 * capacity.get() as u64;
                SegmentError::memory(operation, bytes, Errno::from_raw_os_error(errno as i32))
            }
        };
        let twice = capacity
            .checked_mul(TWO)
            .ok_or(nix::Error::ENOMEM)
            .map_err(fail("reserve addresses for the data area"))?;
        let reserved = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: the kernel chooses an address where nothing is mapped, and the pages can't be accessed.
        let base = unsafe { mmap_anonymous(None, twice, ProtFlags::PROT_NONE, reserved) }
            .map_err(fail("reserve addresses for the data area"))?;
        let mirror = Self { base, capacity };
        for half in [base, mirror.second_half()] {
            let read_write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE | MapFlags::MAP_FIXED;
            // SAFETY: `half` begins `capacity` bytes of the reservation above, which nobody else knows of
            // yet, so replacing its pages takes no memory from anybody.
            unsafe { mmap(Some(half.addr()), capacity, read_write, flags, file, offset as _) }
                .map_err(fail("map the data area"))?;
        }
        Ok(mirror)
    }

    fn second_half(&self) -> NonNull<c_void> {
        // SAFETY: the reservation is twice `capacity` bytes long.
        unsafe { self.base.byte_add(self.capacity.get()) }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the reservation that `new` made and nobody has unmapped since; whoever
        // still held an address inside it would have borrowed the `Mapping`.
        // If it failed, the addresses would stay taken: nobody could do anything about it.
        let _ = unsafe { munmap(self.base, 2 * self.capacity.get()) };
    }
}
