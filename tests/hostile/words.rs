//! The words of a ring, from outside.

use super::*;

// Where they lie: `docs/LAYOUT.md`.
const KEY: usize = 56;
/// A word that no ring uses: not 0 while the liar is to be silent.
pub const TRUCE: usize = 4088;
pub const RECEIVER_AREA: usize = 4096;
const RECEIVER_CLAIM: usize = RECEIVER_AREA + 256;
pub const SENDERS_AREA: usize = 8192;
pub const SLOTS: usize = 8704;
pub const SLOT: usize = 256;
pub const LOAN: usize = 240;
const COMING: usize = 40;

/// All that a ring is, writable.
pub struct Segment {
    pub map: MmapRaw,
    pub slots: usize,
    pub control: usize,
    pub capacity: usize,
    pub key: u64,
}

impl Segment {
    pub fn of(ring: &Ring) -> Self {
        let (info, fd): (_, BorrowedFd) = (ring.info(), ring.fd().unwrap());
        let (slots, capacity) = (usize::from(info.many_senders.unwrap_or(1)), info.capacity as usize);
        let control = (SLOTS + slots * SLOT).next_multiple_of(rustix::param::page_size());
        let map = MmapOptions::new().len(control + capacity).map_raw(&fd).unwrap();
        let mut segment = Self { map, slots, control, capacity, key: 0 };
        segment.key = segment.word(KEY).load(Relaxed);
        segment
    }

    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at < self.map.len());
        // SAFETY: inside the mapping, aligned; this process makes atomic accesses only.
        unsafe { &*self.map.as_mut_ptr().add(at).cast() }
    }

    pub fn half(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at < self.map.len());
        // SAFETY: as for `word`.
        unsafe { &*self.map.as_mut_ptr().add(at).cast() }
    }

    /// Who holds each place, and who is about to.
    pub fn claims(&self) -> impl Iterator<Item = usize> {
        let slots = (0..self.slots).flat_map(|slot| [SLOTS + slot * SLOT, SLOTS + slot * SLOT + COMING]);
        [RECEIVER_CLAIM, RECEIVER_AREA + 320].into_iter().chain(slots)
    }

    /// Where the unit at `position` lies.
    pub fn unit(&self, position: u64) -> usize {
        self.control + (position as usize * 8) % self.capacity
    }

    /// Makes the record at `position` valid, whatever it says.
    pub fn forge(&self, position: u64, state: u64, info: u64) {
        self.word(self.unit(position + 1)).store(info, Relaxed);
        self.word(self.unit(position)).store(self.key ^ (position << 8 | state), Release);
    }

    /// The ring as it is when all who ever came were killed. The liar is silent from then on.
    pub fn kill_all(&self) {
        self.word(TRUCE).store(1, Relaxed);
        for claim in self.claims() {
            // Nobody that the victim knows to be dead already: of those there is no news.
            let before = self.word(claim).load(Relaxed);
            self.word(claim)
                .store((before >> 30).wrapping_add(1) << 30 | claim_of(IMPOSSIBLE, 1) & 0xff, Release);
        }
        for attachments in [RECEIVER_AREA + 144, SENDERS_AREA + 144] {
            self.half(attachments).fetch_add(1, Release);
            let _ = futex::wake(self.half(attachments), futex::Flags::empty(), 1 << 20);
        }
    }
}

/// No process has this id.
pub const IMPOSSIBLE: u64 = 0;

/// This one lives.
pub const INIT: u64 = 1;

/// A claim of the process `pid` with this state: 1 attached, 2 closed.
pub fn claim_of(pid: u64, state: u64) -> u64 {
    7 << 30 | pid << 8 | state
}

pub struct Noise(pub u64);

impl Noise {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        scatter(self.0)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    pub fn one_of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u64) as usize]
    }
}
