//! One server at a time.

use super::{DurableError, OWNER_AT};
use crate::owner::Owner;
use rustix::{
    fs::{FlockOperation, fcntl_lock, flock},
    io::{Errno, pread, retry_on_intr},
};
use std::{os::fd::OwnedFd, process};
use zerocopy::IntoBytes;

/// The file of a state that is this process's own until this is dropped.
///
/// The first lock belongs to the process: a forked child does not inherit it, and it ends with the process. But it is lost as well
/// when the process closes any other descriptor of the file, and keeps out nobody of the same process. So there is a second lock,
/// which has neither fault, and which a forked child keeps: who can't have that must know that the owner is dead.
pub(super) struct Lock {
    file: OwnedFd,
    process: u32,
}

impl Lock {
    /// Locks the file, or says that it is in use. Never blocks.
    pub(super) fn on(file: OwnedFd) -> Result<Self, DurableError> {
        let operation = FlockOperation::NonBlockingLockExclusive;
        match retry_on_intr(|| fcntl_lock(&file, operation)) {
            Err(Errno::AGAIN | Errno::ACCESS) => return Err(DurableError::InUse),
            locked => locked?,
        }
        match retry_on_intr(|| flock(&file, operation)) {
            Err(Errno::WOULDBLOCK) => {
                let mut owner = Owner::default();
                retry_on_intr(|| pread(&file, owner.as_mut_bytes(), OWNER_AT as u64 * 8))?;
                if !owner.is_dead() {
                    return Err(DurableError::InUse);
                }
            }
            locked => locked?,
        }
        Ok(Self { file, process: process::id() })
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Not so in a child that was forked since.
    pub(super) fn is_ours(&self) -> bool {
        self.process == process::id()
    }
}

impl Drop for Lock {
    /// The file may be open for a moment yet, in a child that is being started: so closing it is not enough.
    fn drop(&mut self) {
        if self.is_ours() {
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}
