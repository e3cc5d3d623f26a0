//! A data area of which only the part in use has memory.
//!
//! It is cut into chunks. Who sends has memory put under what it is about to reserve, and under the header behind it, which the
//! receiver looks at. The receiver takes the memory of each chunk that it has wholly released, and only then shows that the
//! chunk is free: so its words say twice how far it is.
//!
//! ```text
//! receiver   position := end;   memory under freed..floor(end) is taken;   freed := floor(end)
//! sender     tail + need + 1 - freed <= capacity;   memory is put under tail..tail + need + 1
//! ```
//!
//! What was released and not taken yet when a receiver dies is taken by its successor. Memory that has come anew is zero, which
//! is no tag of such a ring: the low byte of its key is zero.

use super::{
    memory::Memory,
    position::{Position, UNIT},
    receive::{self, Look, Violation},
    record::Info,
};
use crate::sync::{Ordering::*, fence};

/// Where the memory of a data area comes from.
pub trait Pages: Send + Sync {
    /// Puts memory under so many bytes of the data area. What has some keeps what it holds. False when there is not enough.
    fn put(&self, offset: u64, bytes: u64) -> bool;

    /// Takes the memory under so many bytes, which are zero then. False when it stays as it is.
    fn take(&self, offset: u64, bytes: u64) -> bool;

    /// Copies so many bytes of the data area, which may have memory or not: where there is none they are zero, and none comes.
    /// False when that fails.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool;
}

/// How the memory of an elastic ring comes and goes.
pub(crate) struct Elastic {
    pages: Box<dyn Pages>,
    /// Units of a chunk, a power of two.
    chunk: u64,
}

/// Why there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shortage {
    /// The ring is as large as it may be.
    Room,
    /// The system gives no memory.
    Memory,
}

impl Elastic {
    /// Bytes of a chunk of a ring that may have `capacity` bytes: a power of two.
    pub(crate) const fn chunk_bytes(capacity: u64) -> u64 {
        let part = capacity / 16;
        if part < Self::LEAST_CHUNK {
            Self::LEAST_CHUNK
        } else if part > Self::MOST_CHUNK {
            Self::MOST_CHUNK
        } else {
            part
        }
    }

    const LEAST_CHUNK: u64 = 64 << 10;
    const MOST_CHUNK: u64 = 2 << 20;

    pub(crate) fn new(chunk_bytes: u64, pages: Box<dyn Pages>) -> Self {
        assert!(chunk_bytes.is_power_of_two() && chunk_bytes >= UNIT);
        Self { pages, chunk: chunk_bytes / UNIT }
    }

    /// Units of a chunk.
    pub(crate) fn chunk(&self) -> u64 {
        self.chunk
    }

    /// Start of the chunk in which the position lies.
    pub(super) fn floor(&self, position: Position) -> Position {
        position.back(position.units() & (self.chunk - 1))
    }

    /// Start of the chunk behind the one in which the position lies.
    fn behind(&self, position: Position) -> Position {
        self.floor(position).plus(self.chunk)
    }

    /// Memory under what a sender is about to reserve, where the ring is free up to a lap behind `freed`. Gives what that sender
    /// may take for the receiver's position until it needs more.
    pub(super) fn back(
        &self,
        memory: &Memory,
        freed: Position,
        tail: Position,
        units: u64,
    ) -> Result<Position, Shortage> {
        let capacity = memory.geometry().capacity_units();
        // The header behind it: it is the last unit that needs memory.
        let last = tail.plus(units);
        if tail.since(freed) > capacity || last.since(freed) >= capacity {
            return Err(Shortage::Room);
        }
        let (from, to) = (self.floor(tail), self.behind(last));
        if !self.each_part(memory, from, to, |offset, bytes| self.pages.put(offset, bytes)) {
            return Err(Shortage::Memory);
        }
        Ok(to.back(capacity + 1))
    }

    /// Memory under the first chunk of a ring that nobody else sees yet; false when there is none.
    pub(crate) fn begin(&self, memory: &Memory) -> bool {
        let head = memory.head();
        self.each_part(memory, self.floor(head), self.behind(head), |offset, bytes| {
            self.pages.put(offset, bytes)
        })
    }

    /// Takes the memory of whole chunks that nobody uses. Where the system does not do so it stays, which harms nobody.
    pub(super) fn take(&self, memory: &Memory, from: Position, to: Position) -> bool {
        self.each_part(memory, from, to, |offset, bytes| self.pages.take(offset, bytes))
    }

    /// Makes every header from the tail on, that of a sender that crashed, invalid.
    pub(super) fn wipe(&self, memory: &Memory, tail: Position) {
        let capacity = memory.geometry().capacity_units();
        let (next, end) = (self.behind(tail), memory.room_from().plus(capacity));
        if !(1..=capacity).contains(&end.since(tail)) {
            // Nothing is free behind it.
            return;
        }
        self.wipe_chunks(memory, tail, next);
        if !self.take(memory, next, end) {
            self.wipe_chunks(memory, next, end);
        }
    }

    /// Makes every header up to the start of a chunk invalid. A chunk for which there is no memory has none, and holds nothing.
    fn wipe_chunks(&self, memory: &Memory, from: Position, end: Position) {
        let mut at = from;
        while at != end {
            let next = self.behind(at);
            if self.each_part(memory, self.floor(at), next, |offset, bytes| self.pages.put(offset, bytes)) {
                memory.wipe(at, next.since(at));
            }
            at = next;
        }
    }

    /// The bytes of the data area from one chunk to another, at most a lap, in one part or two.
    fn each_part(
        &self,
        memory: &Memory,
        from: Position,
        to: Position,
        act: impl Fn(u64, u64) -> bool,
    ) -> bool {
        let geometry = memory.geometry();
        let (offset, bytes) = (geometry.offset(from), (to.since(from) * UNIT).min(geometry.capacity()));
        let first = bytes.min(geometry.capacity() - offset);
        (first == 0 || act(offset, first)) && (bytes == first || act(0, bytes - first))
    }
}

/// As [`receive::end_of_records`] from the receiver's position, or from what `first` makes of it: that one may take the memory of
/// records meanwhile, so none of it is touched. Where it does not hold still, or nothing can be read, the ring counts as full from
/// here on: nothing is written over.
pub(super) fn end_of_records(
    memory: &Memory,
    elastic: &Elastic,
    first: impl Fn(Position) -> Position,
) -> Position {
    let capacity = memory.geometry().capacity_units();
    let mut head = memory.head();
    // A receiver that takes a walk's end from under it has passed a chunk, and there are no more than these: only a hostile one
    // gets past more walks.
    for _ in 0..=capacity / elastic.chunk {
        let mut headers = Headers::of(memory, elastic);
        let end = receive::walk(memory.geometry(), head, first(head), |at| headers.look_at(at));
        if headers.failed {
            break;
        }
        // ORDERING: V3, Acquire fence; pairs with the system call that takes memory, behind R1: whoever has read a zero there
        // finds the position that had passed it.
        fence(Acquire);
        head = memory.head();
        if end.has_reached(head) {
            return end;
        }
    }
    memory.room_from().plus(capacity)
}

/// Headers of records, read without touching the memory in which they lie.
struct Headers<'m> {
    memory: &'m Memory,
    pages: &'m dyn Pages,
    /// Offset of the bytes in `window`.
    start: u64,
    window: Vec<u8>,
    /// Whether something could not be read.
    failed: bool,
}

impl<'m> Headers<'m> {
    /// Bytes that are read at once.
    const WINDOW: u64 = if cfg!(ringpost_loom) { UNIT } else { 4096 };

    fn of(memory: &'m Memory, elastic: &'m Elastic) -> Self {
        Self { memory, pages: &*elastic.pages, start: 0, window: Vec::new(), failed: false }
    }

    fn look_at(&mut self, position: Position) -> Result<Look, Violation> {
        let tag = self.word(position);
        let Some(state) = self.memory.state_of(tag, position) else { return Ok(Look::Empty) };
        let geometry = self.memory.geometry();
        receive::understand(geometry, position, state, || Info(self.word(position.plus(1))))
    }

    /// The word at `position`; zero, which is no tag, where it can't be read.
    fn word(&mut self, position: Position) -> u64 {
        let geometry = self.memory.geometry();
        let offset = geometry.offset(position);
        if !(self.start..self.start + self.window.len() as u64).contains(&offset) {
            let bytes = Self::WINDOW.min(geometry.capacity() - offset);
            (self.start, self.window) = (offset, vec![0; bytes as usize]);
            self.failed |= !self.pages.read(offset, &mut self.window);
        }
        let at = (offset - self.start) as usize;
        self.window[at..].first_chunk().map_or(0, |&word| u64::from_ne_bytes(word))
    }
}

/// The receiver's part: what it has given back.
pub(super) struct GivenBack {
    /// Start of the chunk up to which memory was taken.
    freed: Position,
}

impl GivenBack {
    /// Goes on where the last receiver stopped: `None` in a ring whose memory stays.
    pub(super) fn attach(memory: &Memory, head: Position) -> Option<Self> {
        let elastic = memory.elastic()?;
        let (freed, floor) = (memory.room_from(), elastic.floor(head));
        let possible = floor.since(freed) <= memory.geometry().capacity_units();
        let mut given_back = Self { freed: if possible { freed } else { floor } };
        given_back.up_to(memory, head);
        Some(given_back)
    }

    /// Takes the memory of the chunks before `head`, and shows that they are free. Never inlined: most rings have none to give.
    #[inline(never)]
    pub(super) fn up_to(&mut self, memory: &Memory, head: Position) {
        let Some(elastic) = memory.elastic() else { return };
        let floor = elastic.floor(head);
        if floor != self.freed {
            self.take(memory, elastic, floor);
        }
    }

    #[cold]
    fn take(&mut self, memory: &Memory, elastic: &Elastic, floor: Position) {
        elastic.take(memory, self.freed, floor);
        self.freed = floor;
        // ORDERING: Release V1; pairs with Acquire V2 in `Memory::room_from`: payloads were read, and memory was taken, before.
        memory.receiver().freed.store(floor.units(), Release);
    }
}
