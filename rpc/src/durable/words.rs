//! A file in memory, as atomic words: whatever another process writes there, reading it is defined.

use memmap2::{MmapOptions, MmapRaw};
use std::{
    io,
    os::fd::OwnedFd,
    slice,
    sync::atomic::{
        AtomicU64,
        Ordering::{self, *},
    },
};

/// The words of a file.
pub(super) struct Words {
    map: MmapRaw,
    count: usize,
    /// How many stores are made before this process is killed, as a test sees it.
    #[cfg(test)]
    pub(super) stores_left: std::cell::Cell<usize>,
}

impl Words {
    /// Maps the first `count` words of a file that has so many.
    pub(super) fn map(file: &OwnedFd, count: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(count * 8).map_raw(file)?;
        Ok(Self {
            map,
            count,
            #[cfg(test)]
            stores_left: usize::MAX.into(),
        })
    }

    fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is `count * 8` bytes long, aligned to a page, readable and writable, and lives as long as this
        // value; every access to it is atomic, here and, with the same code, in other processes.
        unsafe { slice::from_raw_parts(self.map.as_ptr().cast(), self.count) }
    }

    /// The word, and with it all that was written before it was published.
    pub(super) fn load(&self, at: usize) -> u64 {
        // ORDERING: Acquire; pairs with Release in `publish` of the server before.
        self.all()[at].load(Acquire)
    }

    /// Stores the word after all that was written before.
    pub(super) fn publish(&self, at: usize, word: u64) {
        // ORDERING: Release; pairs with Acquire in `load` of the next server.
        self.store(&self.all()[at], word, Release);
    }

    /// Writes the bytes from word `at` on; a word that they end in is filled with zeros.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        let words = &self.all()[at..][..bytes.len().div_ceil(8)];
        for (word, bytes) in words.iter().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            // ORDERING: Relaxed; nobody reads it before the next `publish`.
            self.store(word, u64::from_ne_bytes(whole), Relaxed);
        }
    }

    /// Reads bytes from word `at` on.
    pub(super) fn read(&self, at: usize, bytes: &mut [u8]) {
        let words = &self.all()[at..][..bytes.len().div_ceil(8)];
        for (word, bytes) in words.iter().zip(bytes.chunks_mut(8)) {
            // ORDERING: Relaxed; it was written by this process, or before the `load` at the start.
            bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes()[..bytes.len()]);
        }
    }

    /// Copies words to where none of them lies.
    pub(super) fn copy(&self, from: usize, to: usize, count: usize) {
        let words = self.all();
        for (from, to) in words[from..][..count].iter().zip(&words[to..][..count]) {
            // ORDERING: Relaxed both; as in `read` and in `write`.
            self.store(to, from.load(Relaxed), Relaxed);
        }
    }

    fn store(&self, word: &AtomicU64, value: u64, ordering: Ordering) {
        #[cfg(test)]
        match self.stores_left.get() {
            0 => return,
            left => self.stores_left.set(left - 1),
        }
        // ORDERING: the caller says which, and why.
        word.store(value, ordering);
    }
}
