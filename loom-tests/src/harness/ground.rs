//! What an elastic ring stands on: which chunks have memory, and a cell for each, so that loom sees when one is taken while
//! somebody uses it.

use super::*;
use crate::ring::elastic::Pages;
use loom::cell::UnsafeCell;
use std::sync::{OnceLock, Weak};

pub(crate) struct Ground {
    /// The kernel's: which chunks have memory.
    backed: Mutex<Vec<bool>>,
    /// Read by who uses a chunk, written by who takes it.
    chunks: Vec<UnsafeCell<()>>,
    memory: OnceLock<Weak<Memory>>,
}

// SAFETY: loom runs one thread at a time, and checks itself that its cells are not raced for.
unsafe impl Send for Ground {}
// SAFETY: as for Send.
unsafe impl Sync for Ground {}

impl Ground {
    pub(super) fn new() -> Arc<Self> {
        let count = (CAPACITY / CHUNK) as usize;
        Arc::new(Self {
            backed: Mutex::new(vec![false; count]),
            chunks: (0..count).map(|_| UnsafeCell::new(())).collect(),
            memory: OnceLock::new(),
        })
    }

    pub(super) fn pages(self: &Arc<Self>) -> Box<dyn Pages> {
        Box::new(OnGround(Arc::clone(self)))
    }

    pub(super) fn belongs_to(&self, memory: &Arc<Memory>) {
        assert!(self.memory.set(Arc::downgrade(memory)).is_ok());
    }

    /// How many chunks have memory.
    pub(crate) fn size(&self) -> usize {
        self.backed.lock().unwrap().iter().filter(|&&backed| backed).count()
    }

    /// Somebody uses so many bytes.
    pub(super) fn step_on(&self, offset: u64, bytes: u64) {
        let first = (offset / (CHUNK * UNIT)) as usize;
        let last = ((offset + bytes.max(UNIT) - 1) / (CHUNK * UNIT)) as usize;
        for chunk in first..=last {
            let chunk = chunk % self.chunks.len();
            assert!(self.backed.lock().unwrap()[chunk], "chunk {chunk} has no memory");
            self.chunks[chunk].with(|_| ());
        }
    }

    fn set(&self, offset: u64, bytes: u64, backed: bool) {
        for chunk in offset / (CHUNK * UNIT)..(offset + bytes) / (CHUNK * UNIT) {
            self.backed.lock().unwrap()[chunk as usize] = backed;
        }
    }
}

struct OnGround(Arc<Ground>);

impl Pages for OnGround {
    fn put(&self, offset: u64, bytes: u64) -> bool {
        self.0.set(offset, bytes, true);
        true
    }

    fn take(&self, offset: u64, bytes: u64) -> bool {
        for chunk in offset / (CHUNK * UNIT)..(offset + bytes) / (CHUNK * UNIT) {
            self.0.chunks[chunk as usize].with_mut(|_| ());
        }
        if let Some(memory) = self.0.memory.get().and_then(Weak::upgrade) {
            memory.clear(offset, bytes);
        }
        // Last, so that who is killed before has taken nothing.
        self.0.set(offset, bytes, false);
        true
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        if let Some(memory) = self.0.memory.get().and_then(Weak::upgrade) {
            memory.copy(offset, bytes);
        }
        true
    }
}
