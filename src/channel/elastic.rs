//! Rings that take memory as their backlog grows, and give it back.

use super::builder::Builder;
use crate::{
    error::{OpenError, SegmentError},
    header::{Header, Kind, LEAST_CEILING, MOST_CAPACITY},
    ring::{
        elastic::{Elastic, Pages},
        memory::Memory,
    },
    sys::segment::{DataPages, Mapping, Segment, Size},
};
use std::path::Path;

impl Builder {
    /// A ring that takes memory as its backlog grows, up to `ceiling` bytes, and gives it back as it is received: in chunks of
    /// a sixteenth of the ceiling, at least 64 KiB and at most 2 MiB, of which an empty ring has one or two. The ceiling is the
    /// [`capacity`](Builder::capacity): from 256 KiB to 2^40, rounded up to a power of two. When a ring is opened: what it must
    /// be.
    ///
    /// A sender that has reached the ceiling waits, or gets [`SendError::AtCeiling`](crate::SendError::AtCeiling); where the
    /// system has no memory left it gets [`SendError::NoMemory`](crate::SendError::NoMemory) at once. The longest message is
    /// a chunk shorter than in other rings.
    ///
    /// Not for many readers, for links, for a [`rendezvous`](Builder::rendezvous), or without a file: inside a process or hosted.
    pub fn elastic(mut self, ceiling: u64) -> Self {
        self.elastic = true;
        self.capacity(ceiling)
    }
}

/// Whether such a ring can be elastic.
pub(super) fn check(kind: Kind, rendezvous: bool, capacity: u64, has_file: bool) -> Result<(), OpenError> {
    if rendezvous {
        let what = "ceiling of a rendezvous, which has no backlog and can't be elastic,";
        return Err(OpenError::Setting { what, given: capacity, least: 0, most: 0 });
    }
    if let Kind::Broadcast(readers) = kind {
        let (what, given) = ("number of readers of an elastic ring", readers.into());
        return Err(OpenError::Setting { what, given, least: 0, most: 0 });
    }
    if !has_file {
        let what = "ceiling of a ring without a file, which can't be elastic,";
        return Err(OpenError::Setting { what, given: capacity, least: 0, most: 0 });
    }
    if capacity < LEAST_CEILING {
        let (what, given) = ("ceiling", capacity);
        return Err(OpenError::Setting { what, given, least: LEAST_CEILING, most: MOST_CAPACITY });
    }
    Ok(())
}

/// Size of the file of a ring.
pub(super) fn size(header: &Header) -> Size {
    let (len, control) = (header.segment_length(), header.control_length.into());
    Size { len, backed: if header.elastic { control } else { len } }
}

/// Maps the segment of a ring.
pub(super) fn map(header: &Header, segment: &Segment) -> Result<Mapping, SegmentError> {
    let (control, capacity) = (header.control_length as usize, header.geometry.capacity() as usize);
    if header.elastic { segment.map_sparse(control, capacity) } else { segment.map(control, capacity) }
}

/// The memory of a ring, with what it needs to come and go.
pub(super) fn stretch(memory: Memory, header: &Header, segment: &Segment) -> Result<Memory, SegmentError> {
    if !header.elastic {
        return Ok(memory);
    }
    let pages = FilePages(DataPages::of(segment, header.control_length as usize)?);
    Ok(memory.with_elastic(Elastic::new(Elastic::chunk_bytes(header.geometry.capacity()), Box::new(pages))))
}

/// Memory under the first chunk of a ring that nobody else sees yet, whose segment is to have its name in this directory, if any.
pub(super) fn begin(
    memory: &Memory,
    header: &Header,
    segment: &Segment,
    directory: Option<&Path>,
) -> Result<(), SegmentError> {
    if memory.elastic().is_none_or(|elastic| elastic.begin(memory)) {
        return Ok(());
    }
    let bytes = Elastic::chunk_bytes(header.geometry.capacity());
    let (needed, available) = (u64::from(header.control_length) + bytes, segment.space());
    Err(match directory {
        Some(dir) if available < needed => SegmentError::NoSpace { dir: Some(dir.into()), needed, available },
        _ => SegmentError::NoMemory { operation: "allocate the first chunk of the ring", bytes },
    })
}

struct FilePages(DataPages);

impl Pages for FilePages {
    fn put(&self, offset: u64, bytes: u64) -> bool {
        self.0.put(offset, bytes)
    }

    fn take(&self, offset: u64, bytes: u64) -> bool {
        self.0.take(offset, bytes)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        self.0.read(offset, bytes)
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::{
        channel::builder::{mapped, unnamed},
        ring::{
            reserve::{Full, Need, Produce},
            spsc,
        },
        sync::Ordering::*,
    };
    use std::sync::{Arc, OnceLock, Weak};

    const CEILING: u64 = 1 << 20;

    /// Of a receiver that gets past every walk, or of a file that can't be read. Whoever takes or puts memory fails the test.
    struct Restless {
        memory: Arc<OnceLock<Weak<Memory>>>,
        can_be_read: bool,
    }

    impl Pages for Restless {
        fn put(&self, _: u64, _: u64) -> bool {
            panic!("nothing is free");
        }

        fn take(&self, _: u64, _: u64) -> bool {
            panic!("nothing is free");
        }

        fn read(&self, _: u64, _: &mut [u8]) -> bool {
            let memory = self.memory.get().and_then(Weak::upgrade).unwrap();
            let position = memory.head().plus(memory.elastic().unwrap().chunk());
            // ORDERING: Relaxed; there is one thread.
            memory.receiver().position.store(position.units(), Relaxed);
            self.can_be_read
        }
    }

    #[test]
    fn a_sender_that_never_finds_the_end_writes_over_nothing() {
        for can_be_read in [true, false] {
            let header = unnamed().elastic(CEILING).header(true).unwrap();
            let segment = Segment::memfd("ringpost", size(&header)).unwrap();
            let itself = Arc::new(OnceLock::new());
            let pages = Box::new(Restless { memory: Arc::clone(&itself), can_be_read });
            let memory = mapped(&header, map(&header, &segment).unwrap());
            let memory = Arc::new(memory.with_elastic(Elastic::new(Elastic::chunk_bytes(CEILING), pages)));
            itself.set(Arc::downgrade(&memory)).unwrap();
            let mut sender = spsc::Producer::attach(Arc::clone(&memory), true, false);
            assert!(matches!(sender.reserve(Need::Record(0)), Err(Full)), "the ring counts as full");
        }
    }
}
