//! Memory under parts of a data area, put there and taken away while the segment is in use.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::retry_on_intr;

use super::{ALLOCATION_STEP, Segment, SegmentError};

/// The data area of a segment that was mapped with [`Segment::map_sparse`].
#[derive(Debug)]
pub(crate) struct DataPages {
    file: File,
    /// Byte of the file at which it begins.
    start: u64,
}

impl DataPages {
    /// The area behind `control_len` bytes.
    pub(crate) fn of(segment: &Segment, control_len: usize) -> Result<Self, SegmentError> {
        let file = segment.file.try_clone();
        let file = file.map_err(|error| super::from_io("copy the descriptor", error))?;
        Ok(Self { file, start: control_len as u64 })
    }

    /// Backs whole pages with memory; what has some keeps what it holds. False when there is none left.
    pub(crate) fn put(&self, offset: u64, len: u64) -> bool {
        self.in_steps(FallocateFlags::KEEP_SIZE, offset, len)
    }

    /// Takes the memory of whole pages away: they are zero. False where the file system can't do that.
    pub(crate) fn take(&self, offset: u64, len: u64) -> bool {
        self.in_steps(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
    }

    /// Copies what the area holds. Touches no memory: a page without any reads as zeros, and gets none. False when the system refuses.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        self.file.read_exact_at(bytes, self.start + offset).is_ok()
    }

    fn in_steps(&self, flags: FallocateFlags, offset: u64, len: u64) -> bool {
        let end = offset + len;
        let mut steps = (offset..end).step_by(ALLOCATION_STEP as usize);
        steps.all(|at| {
            let step = ALLOCATION_STEP.min(end - at);
            retry_on_intr(|| fallocate(&self.file, flags, self.start + at, step)).is_ok()
        })
    }
}
