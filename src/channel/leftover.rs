//! What stands under a name and is used by nobody.

use super::{
    builder::{Builder, HOSTED},
    statistics::Statistics,
};
use crate::{
    error::{BOOT, OpenError, SegmentError},
    header::{self, Header},
    sys::segment::Segment,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A named ring that nobody has open, or a file that is named like a ring and is none. From [`Builder::leftover`].
///
/// As long as this value lives nobody can open it: who tries waits for two seconds, and then fails with
/// [`SegmentError::BeingRemoved`].
#[derive(Debug)]
pub struct Leftover {
    segment: Segment,
    path: PathBuf,
    content: Result<Statistics, OpenError>,
}

impl Builder {
    /// What stands under the name, if nobody uses it: nobody has it open, and nobody who is attached lives.
    /// A process that is about to run another program counts for a moment as two that have it open.
    ///
    /// # Errors
    /// [`OpenError::Segment`] with [`SegmentError::InUse`] when somebody does, with [`SegmentError::NotFound`] when there
    /// is nothing, and when it is not this user's alone, as for [`open`](Builder::open). [`OpenError::Mismatch`] and
    /// [`OpenError::NotARing`] when it is a ring, but who is attached to it can't be told: of another version or PID
    /// namespace, or hosted.
    pub fn leftover(&self) -> Result<Leftover, OpenError> {
        let path = self.path()?;
        let segment = Segment::open_alone(&path, self.expected_owner())?;
        if is_hosted(&segment)? {
            return Err(HOSTED);
        }
        let content =
            self.check(&segment).map(|(header, memory)| Statistics::read(&Arc::new(memory), &header));
        match content {
            // It has called exec since, and is attached as long as it lives.
            Ok(statistics) if statistics.anybody_attached() => Err(SegmentError::InUse { path }.into()),
            Ok(_)
            | Err(
                OpenError::NotARing { .. }
                | OpenError::Mismatch { what: BOOT, .. }
                | OpenError::Segment(SegmentError::TooShort { .. }),
            ) => Ok(Leftover { segment, path, content }),
            // It may be a ring whose claims this process can't read.
            Err(error) => Err(error),
        }
    }
}

/// Those who have such a ring open hold no lock.
fn is_hosted(segment: &Segment) -> Result<bool, SegmentError> {
    let mut bytes = [0; header::LENGTH];
    let there = segment.read_head(&mut bytes)?;
    Ok(Header::decode(&bytes[..there]).is_ok_and(|header| !header.geometry.mirrored()))
}

impl Leftover {
    /// What was done in the ring; or why it is none that this process can use.
    pub fn content(&self) -> Result<&Statistics, &OpenError> {
        self.content.as_ref()
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> u64 {
        self.segment.allocated()
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`OpenError::Segment`] when it may not be removed; or when its name is gone, or another ring's by now, through
    /// [`Builder::unlink`] or somebody who removes files.
    pub fn remove(self) -> Result<(), OpenError> {
        Ok(self.segment.unlink(&self.path)?)
    }
}
