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
use rustix::mm::{Advice, madvise};

use super::SegmentError;

/// The memory of a ring; unmapped on drop.
///
/// Bytes `capacity..2 * capacity` behind [`data`](Self::data) are the same memory as bytes `0..capacity`, so
/// a record that begins before the end of the area always lies in one piece.
#[derive(Debug)]
pub(crate) struct Mapping {
    control: MmapRaw,
    data: Range,
}

impl Mapping {
    /// Maps `file[..control_len]` and `file[control_len..][..capacity]`, both whole pages and inside the
    /// file.
    pub(super) fn new(
        file: &File,
        control_len: usize,
        capacity: NonZeroUsize,
        access: Access,
    ) -> Result<Self, SegmentError> {
        let mut options = MmapOptions::new();
        options.len(control_len).populate();
        let control = match access {
            Access::Own | Access::Sparse => options.map_raw(file),
            Access::Peers | Access::Frozen => options.map_raw_read_only(file),
        };
        let control = control.map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
            SegmentError::memory("map the control area", control_len as u64, errno)
        })?;
        Ok(Self { control, data: Range::twice(file, control_len, capacity, access)? })
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
        self.data.base()
    }
}

/// What a process may do with pages of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// Read and write them.
    Own,
    /// The same, where not all of them have memory: none is touched.
    Sparse,
    /// Read what another process writes there.
    Peers,
    /// Read what nobody writes any more.
    Frozen,
}

impl Access {
    fn protection(self) -> ProtFlags {
        match self {
            Self::Own | Self::Sparse => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            Self::Peers | Self::Frozen => ProtFlags::PROT_READ,
        }
    }

    fn flags(self) -> MapFlags {
        match self {
            Self::Own | Self::Peers => MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE,
            Self::Sparse => MapFlags::MAP_SHARED,
            // Linux before 6.7 takes a shared mapping of what is sealed for one that may yet be written to. A private one that
            // can't be written to has the same pages.
            Self::Frozen => MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE,
        }
    }
}

/// Addresses that belong to this value, and the parts of files that are mapped there. Unmapped on drop.
#[derive(Debug)]
pub(super) struct Range {
    base: NonNull<c_void>,
    len: NonZeroUsize,
    /// What it is for, in errors.
    operation: &'static str,
}

// SAFETY: the address range belongs to this value alone and to no thread; it's unmapped by whichever thread
// drops it.
unsafe impl Send for Range {}
// SAFETY: a shared `Range` gives away nothing but an address that never changes.
unsafe impl Sync for Range {}

impl Range {
    /// Reserves `len` bytes of addresses, which can't be accessed yet.
    pub(super) fn reserve(len: NonZeroUsize, operation: &'static str) -> Result<Self, SegmentError> {
        let reserved = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: the kernel chooses an address where nothing is mapped, and the pages can't be accessed.
        let base = unsafe { mmap_anonymous(None, len, ProtFlags::PROT_NONE, reserved) }
            .map_err(|errno| refused(operation, len.get(), errno))?;
        Ok(Self { base, len, operation })
    }

    /// Maps `file[offset..][..len]` at byte `at` of the range.
    pub(super) fn place(
        &mut self,
        at: usize,
        len: NonZeroUsize,
        file: &File,
        offset: usize,
        access: Access,
    ) -> Result<(), SegmentError> {
        assert!(at.checked_add(len.get()).is_some_and(|end| end <= self.len.get()));
        // SAFETY: inside the range.
        let start = unsafe { self.base.byte_add(at) };
        let flags = access.flags() | MapFlags::MAP_FIXED;
        // SAFETY: the pages are this range's, so replacing them takes no memory from anybody else.
        unsafe { mmap(Some(start.addr()), len, access.protection(), flags, file, offset as _) }
            .map_err(|errno| refused(self.operation, self.len.get(), errno))?;
        Ok(())
    }

    /// A range that holds `file[offset..][..capacity]` twice back to back.
    pub(super) fn twice(
        file: &File,
        offset: usize,
        capacity: NonZeroUsize,
        access: Access,
    ) -> Result<Self, SegmentError> {
        let operation = "map the data area";
        let len =
            capacity.checked_mul(TWO).ok_or_else(|| refused(operation, usize::MAX, nix::Error::ENOMEM))?;
        let mut range = Self::reserve(len, operation)?;
        for at in [0, capacity.get()] {
            range.place(at, capacity, file, offset, access)?;
        }
        Ok(range)
    }

    /// A range that holds `file[..len]`.
    pub(super) fn whole(file: &File, len: NonZeroUsize, access: Access) -> Result<Self, SegmentError> {
        let mut range = Self::reserve(len, "map a region")?;
        range.place(0, len, file, 0, access)?;
        Ok(range)
    }

    /// Nothing of it will be there in a forked child.
    pub(super) fn keep_from_children(&self) -> Result<(), SegmentError> {
        // SAFETY: changes no access of this process; in a child, whoever holds an address inside the range asks first
        // whether it still is what it was (`Block::start`).
        unsafe { madvise(self.base.as_ptr(), self.len.get(), Advice::LinuxDontFork) }
            .map_err(|errno| SegmentError::os("keep a region from forked children", errno))
    }

    /// Start of the range, at a page boundary.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base.cast()
    }
}

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn refused(operation: &'static str, bytes: usize, errno: nix::Error) -> SegmentError {
    SegmentError::memory(operation, bytes as u64, Errno::from_raw_os_error(errno as i32))
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the reservation that `reserve` made and nobody has unmapped since; whoever
        // still held an address inside it would have borrowed its owner.
        // If it failed, the addresses would stay taken: nobody could do anything about it.
        let _ = unsafe { munmap(self.base, self.len.get()) };
    }
}
