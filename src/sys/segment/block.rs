//! Memory of any length: that one process fills and others then read, a memfd that nobody can write to any more; and memory
//! that all who have it write.

use core::num::NonZeroUsize;
use core::ptr::NonNull;
use std::fs::File;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{SealFlags, fcntl_add_seals, fstatfs};

use super::mapping::{Access, Range};
use super::{FIXED_SIZE, Segment, SegmentError, TMPFS, from_io};
use crate::sys::fork::Generation;

/// Nobody writes to such a file, and no mapping is left through which somebody could: the kernel refuses the seal else.
const FROZEN: SealFlags = FIXED_SIZE.union(SealFlags::WRITE);

/// Memory that this process fills.
#[derive(Debug)]
pub(crate) struct Block {
    file: File,
    length: NonZeroUsize,
    /// Not there in a forked child, where other memory may lie in its place.
    range: Option<Range>,
    generation: Generation,
}

impl Block {
    /// All its memory is taken here, and it's zero. `name` is for people who look at `/proc/<pid>/maps`.
    pub(crate) fn new(name: &str, length: usize) -> Result<Self, SegmentError> {
        let length = NonZeroUsize::new(length).ok_or(SegmentError::TooShort { found: 0, needed: 1 })?;
        let file = Segment::allocated_memfd(name, (length.get() as u64).into())?;
        let range = Range::whole(&file, length, Access::Own)?;
        // Else a child that somebody forks could keep it from being sealed.
        range.keep_from_children()?;
        Ok(Self { file, length, range: Some(range), generation: Generation::current() })
    }

    /// Start of the memory, at a page boundary.
    ///
    /// # Panics
    /// In a forked child, which has not got it.
    pub(crate) fn start(&self) -> NonNull<u8> {
        let range = self.range.as_ref().filter(|_| self.generation.lasts());
        range.expect("a region that is still written belongs to the process that made it").base()
    }

    pub(crate) fn len(&self) -> usize {
        self.length.get()
    }

    /// Nobody writes to it from now on.
    pub(crate) fn freeze(mut self) -> Result<FrozenBlock, SegmentError> {
        self.unmap();
        let seal = |seals| fcntl_add_seals(&self.file, seals);
        seal(FROZEN | SealFlags::SEAL).map_err(|errno| SegmentError::os("seal a region", errno))?;
        FrozenBlock::take(self.file.try_clone().map_err(|error| from_io("seal a region", error))?.into())
    }

    fn unmap(&mut self) {
        let range = self.range.take();
        if !self.generation.lasts() {
            mem::forget(range);
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.unmap();
    }
}

/// Memory whose bytes nobody changes any more, mapped to read only.
///
/// Reading it never raises SIGBUS. When it was taken each of its pages was in memory or in swap; a page leaves the file only
/// when it is truncated or a hole is punched, which the seals forbid. (A swap device that can't be read, or memory that is
/// broken, is nothing that a process can be spared.)
#[derive(Debug)]
pub(crate) struct FrozenBlock {
    file: File,
    length: NonZeroUsize,
    range: Range,
}

impl FrozenBlock {
    /// Takes what somebody passed: only a memfd that is sealed against writing and any change of size, and has no holes.
    /// Moves the position of the open file, which nothing here depends on.
    pub(crate) fn take(fd: OwnedFd) -> Result<Self, SegmentError> {
        let segment = Segment::passed(fd)?;
        // Memfds of huge pages, which are mapped otherwise, are of another file system.
        if !fstatfs(&segment.file).is_ok_and(|system| system.f_type == TMPFS) {
            return Err(SegmentError::NotRegular { path: None });
        }
        segment.check_seals(&[
            (SealFlags::WRITE, "writing"),
            (SealFlags::SHRINK, "shrinking"),
            (SealFlags::GROW, "growing"),
        ])?;
        // Only now: before it was sealed its owner could still change it.
        let length = block_length(segment.length_without_holes()?)?;
        let range = Range::whole(&segment.file, length, Access::Frozen)?;
        Ok(Self { file: segment.file, length, range })
    }

    /// Start of the memory, at a page boundary.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.range.base()
    }

    pub(crate) fn len(&self) -> usize {
        self.length.get()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Memory that every process that has it reads and writes.
#[derive(Debug)]
pub(crate) struct CommonBlock {
    segment: Segment,
    range: Range,
    length: NonZeroUsize,
}

impl CommonBlock {
    /// All its memory is taken here, and it's zero. `name` is for people who look at `/proc/<pid>/maps`.
    pub(crate) fn new(name: &str, length: usize) -> Result<Self, SegmentError> {
        Self::map(Segment::memfd(name, length as u64)?, length as u64)
    }

    /// Takes what somebody passed: only a memfd whose size nobody can change, and all of whose memory is there: whoever made it has
    /// paid for it. Moves the position of the open file, which nothing here depends on.
    pub(crate) fn take(fd: OwnedFd) -> Result<Self, SegmentError> {
        let segment = Segment::from_fd(fd)?;
        let length = segment.length_without_holes()?;
        Self::map(segment, length)
    }

    fn map(segment: Segment, length: u64) -> Result<Self, SegmentError> {
        let length = block_length(length)?;
        let range = Range::whole(&segment.file, length, Access::Own)?;
        Ok(Self { segment, range, length })
    }

    /// Start of the memory, at a page boundary.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.range.base()
    }

    pub(crate) fn len(&self) -> usize {
        self.length.get()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.segment.fd()
    }
}

/// Bytes of a block, which has at least one.
fn block_length(found: u64) -> Result<NonZeroUsize, SegmentError> {
    let length = usize::try_from(found).ok().and_then(NonZeroUsize::new);
    length.ok_or(SegmentError::TooShort { found, needed: 1 })
}
