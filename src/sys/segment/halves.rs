//! Memory in two halves, each made by the process that writes it and read-only for the other.
//!
//! A half is a memfd that is sealed when its maker has mapped it: from then on nobody can map it to write, change its
//! size or punch holes into it. What a peer passes is taken only when it is sealed so, exactly as long as it must be, and
//! without holes: then reading it never fails later.

use core::num::NonZeroUsize;
use core::ptr::NonNull;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{SealFlags, fcntl_add_seals};
use rustix::param::page_size;

use super::mapping::{Access, Range};
use super::{FIXED_SIZE, Segment, SegmentError};

/// Nobody writes to such a file but through the mappings that there are.
const ONE_WAY: SealFlags = FIXED_SIZE.union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// Where the memory is cut: the first half is `control[..cut]`, the second the rest of the control area and the data area.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) cut: usize,
    /// Bytes of the control area.
    pub(crate) control: usize,
    /// Bytes of the data area.
    pub(crate) capacity: usize,
}

impl Plan {
    /// The parts in bytes: control area up to the cut and behind it, data area. `None` when one is not whole pages.
    fn parts(&self) -> Option<[NonZeroUsize; 3]> {
        let whole_pages = |len| NonZeroUsize::new(len).filter(|len| len.get().is_multiple_of(page_size()));
        let behind = self.control.checked_sub(self.cut)?;
        Some([whole_pages(self.cut)?, whole_pages(behind)?, whole_pages(self.capacity)?])
    }
}

/// Which half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    First,
    Second,
}

/// The half that this process has made and writes, and room for the other.
#[derive(Debug)]
pub(crate) struct Half {
    which: Which,
    /// Bytes of the control area up to the cut and behind it, and of the data area.
    parts: [NonZeroUsize; 3],
    file: File,
    control: Range,
    data: Option<Range>,
}

impl Half {
    /// Makes a half: all its memory is taken here, and it's zero. `name` is for people who look at `/proc/<pid>/maps`.
    pub(crate) fn new(name: &str, which: Which, plan: Plan) -> Result<Self, SegmentError> {
        let Some(parts) = plan.parts() else {
            return Err(SegmentError::Unaligned {
                control_len: plan.control - plan.cut,
                capacity: plan.capacity,
                page: page_size(),
            });
        };
        let [cut, behind, capacity] = parts;
        let whole = cut.saturating_add(behind.get());
        let mut control = Range::reserve(whole, "map the control area")?;
        let file = Segment::allocated_memfd(name, length(which, parts).into())?;
        let data = match which {
            Which::First => {
                control.place(0, cut, &file, 0, Access::Own)?;
                None
            }
            Which::Second => {
                control.place(cut.get(), behind, &file, 0, Access::Own)?;
                Some(Range::twice(&file, behind.get(), capacity, Access::Own)?)
            }
        };
        fcntl_add_seals(&file, ONE_WAY)
            .map_err(|errno| SegmentError::os("seal the memory of a link", errno))?;
        Ok(Self { which, parts, file, control, data })
    }

    /// Start of the control area. Only this half of it can be accessed yet.
    pub(crate) fn control(&self) -> NonNull<u8> {
        self.control.base()
    }

    /// What is to be passed to the other process.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Maps the other process's half, read-only, beside this one. Gives this half's descriptor back.
    pub(crate) fn join(mut self, theirs: &OtherHalf) -> Result<(Halves, OwnedFd), SegmentError> {
        let [cut, behind, capacity] = self.parts;
        let other = match self.which {
            Which::First => Which::Second,
            Which::Second => Which::First,
        };
        theirs.check_length(length(other, self.parts))?;
        let data = match (self.which, self.data) {
            (Which::Second, Some(own)) => {
                self.control.place(0, cut, &theirs.0.file, 0, Access::Peers)?;
                own
            }
            _ => {
                self.control.place(cut.get(), behind, &theirs.0.file, 0, Access::Peers)?;
                Range::twice(&theirs.0.file, behind.get(), capacity, Access::Peers)?
            }
        };
        Ok((Halves { control: self.control, data }, self.file.into()))
    }
}

/// Bytes of a half.
fn length(which: Which, [cut, behind, capacity]: [NonZeroUsize; 3]) -> u64 {
    match which {
        Which::First => cut.get() as u64,
        Which::Second => behind.get() as u64 + capacity.get() as u64,
    }
}

/// A half that another process has passed: sealed, and without holes.
#[derive(Debug)]
pub(crate) struct OtherHalf(Segment);

impl OtherHalf {
    /// Checks what was passed.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, SegmentError> {
        let segment = Segment::passed(fd)?;
        segment.check_seals(&[
            (SealFlags::FUTURE_WRITE, "writing"),
            (SealFlags::SHRINK, "shrinking"),
            (SealFlags::GROW, "growing"),
            (SealFlags::SEAL, "further seals"),
        ])?;
        segment.length_without_holes()?;
        Ok(Self(segment))
    }

    /// As [`Segment::read_head`].
    pub(crate) fn read_head(&self, buf: &mut [u8]) -> Result<usize, SegmentError> {
        self.0.read_head(buf)
    }

    fn check_length(&self, needed: u64) -> Result<(), SegmentError> {
        match self.0.metadata()?.len() {
            found if found == needed => Ok(()),
            found if found < needed => Err(SegmentError::TooShort { found, needed }),
            found => Err(SegmentError::TooLong { found, needed }),
        }
    }
}

/// Both halves, beside each other; unmapped on drop. No descriptor stays open for them.
#[derive(Debug)]
pub(crate) struct Halves {
    control: Range,
    data: Range,
}

impl Halves {
    /// Start of the control area, at a page boundary.
    pub(crate) fn control(&self) -> NonNull<u8> {
        self.control.base()
    }

    /// Start of the data area, at a page boundary; it lies there twice back to back.
    pub(crate) fn data(&self) -> NonNull<u8> {
        self.data.base()
    }
}
