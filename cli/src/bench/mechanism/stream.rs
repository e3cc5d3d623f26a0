//! The limit of throughput: one process streams chunks through a shared buffer, the other reads them. No records, no
//! wake-up, no names: a written and a read position, each on its own line.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use crate::bench::link::{Figures, Link, Mechanism, Pair, RecvHalf, SendHalf, Setup};
use crate::bench::memory::{Line, Shareable, Shared, SharedMemory};
use crate::bench::shape::Measure;
use crate::bench::station::Bench;

/// Chunks that are streamed.
pub const CHUNKS: &[usize] = &[64 << 10, 1 << 20];
const BUFFER: usize = 4 << 20;

/// The limit `memcpy`.
pub fn memcpy() -> Result<Box<dyn Mechanism>> {
    let link = || anyhow::Ok(StreamLink { buffer: SharedMemory::new(BUFFER)?, positions: Shared::zeroed()? });
    Ok(Box::new(Stream(Pair { there: link()?, back: link()? })))
}

struct Stream(Pair<StreamLink>);

impl Mechanism for Stream {
    fn run(&self, _limit: Measure, setup: &Setup, bench: &mut Bench<'_>) -> Result<Option<Figures>> {
        self.0.run(Measure::Throughput, setup, bench)
    }
}

#[repr(C)]
struct Positions {
    /// Chunks written, by the sender.
    written: Line<AtomicU64>,
    /// Chunks read, by the receiver.
    read: Line<AtomicU64>,
}

// SAFETY: atomics only, all valid when zero.
unsafe impl Shareable for Positions {}

struct StreamLink {
    buffer: SharedMemory,
    positions: Shared<Positions>,
}

impl StreamLink {
    fn half(&self, setup: &Setup) -> Half<'_> {
        let chunks = (self.buffer.size() / setup.size) as u64;
        Half { link: self, chunks, done: 0, seen: 0 }
    }
}

impl Link for StreamLink {
    type Sender<'a> = Half<'a>;
    type Receiver<'a> = Half<'a>;

    fn reset(&self, _setup: &Setup) -> Result<()> {
        // ORDERING: Relaxed, the meeting after a reset orders it.
        self.positions.written.0.store(0, Ordering::Relaxed);
        self.positions.read.0.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn sender(&self, setup: &Setup) -> Result<Half<'_>> {
        Ok(self.half(setup))
    }

    fn receiver(&self, setup: &Setup) -> Result<Half<'_>> {
        Ok(self.half(setup))
    }
}

struct Half<'a> {
    link: &'a StreamLink,
    chunks: u64,
    /// This side's position.
    done: u64,
    /// The other side's, as last seen.
    seen: u64,
}

impl Half<'_> {
    /// The chunk at this side's position.
    ///
    /// # Safety
    /// The positions must say that it is this side's.
    #[inline]
    unsafe fn chunk(&mut self, size: usize) -> &mut [u8] {
        let offset = (self.done % self.chunks) as usize * size;
        assert!(offset + size <= self.link.buffer.size());
        // SAFETY: in bounds by the assertion; exclusive by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.link.buffer.base().as_ptr().add(offset), size) }
    }
}

impl SendHalf for Half<'_> {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        while self.done - self.seen == self.chunks {
            // ORDERING: Acquire, pairs with Release in `recv`: the chunk is overwritten after it was read.
            self.seen = self.link.positions.read.0.load(Ordering::Acquire);
            spin_loop();
        }
        // SAFETY: the receiver is less than a lap behind, so it is done with this chunk.
        fill(unsafe { self.chunk(size) });
        self.done += 1;
        // ORDERING: Release, pairs with Acquire in `recv`: the chunk is read after it was written.
        self.link.positions.written.0.store(self.done, Ordering::Release);
        Ok(())
    }
}

impl RecvHalf for Half<'_> {
    #[inline]
    fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        while self.done == self.seen {
            // ORDERING: Acquire, pairs with Release in `send`.
            self.seen = self.link.positions.written.0.load(Ordering::Acquire);
            spin_loop();
        }
        // SAFETY: the sender has written this chunk and waits until it is read.
        check(unsafe { self.chunk(size) })?;
        self.done += 1;
        // ORDERING: Release, pairs with Acquire in `send`.
        self.link.positions.read.0.store(self.done, Ordering::Release);
        Ok(())
    }
}
