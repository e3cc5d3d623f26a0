//! What was committed and what was received, in a page that the ring knows nothing of.

use super::*;

/// Incarnations of senders in one campaign.
pub const MOST_SENDERS: usize = 1 << 13;

/// What one incarnation of a sender has done, in messages. The first three are written by it, the last by receivers.
#[repr(C)]
pub struct Account {
    pub pid: AtomicU64,
    /// Begun to be committed.
    pub about: AtomicU64,
    /// Commit has returned.
    pub committed: AtomicU64,
    pub received: AtomicU64,
}

/// Shared by the conductor and all actors. All zeros at the beginning.
#[repr(C)]
pub struct Ledger {
    /// Whether the ring knows the sender of each message: with one sender at a time, it forgets who came long before.
    pub names_senders: AtomicU64,
    /// Set by the conductor when no sender will come any more.
    pub finishing: AtomicU64,
    /// Set by a receiver that was then told of the last death.
    pub ended: AtomicU64,
    /// One more than the sequence number of the last message that was received.
    pub last: AtomicU64,
    /// The message whose reception is being noted: as `last`, its sender, its number.
    pub noting: [AtomicU64; 3],
    pub repeated: AtomicU64,
    /// How often a sender has borrowed the tail in a row of messages, and how often one has called it back.
    pub borrowed: AtomicU64,
    pub called_back: AtomicU64,
    /// Nanoseconds; by `time_deaths`.
    pub killed_at: AtomicU64,
    pub noticed_at: AtomicU64,
    pub accounts: [Account; MOST_SENDERS],
}

impl Ledger {
    pub fn new() -> &'static Self {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address where nothing is mapped.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), size_of::<Self>(), access, MapFlags::SHARED) };
        // SAFETY: zeroed, aligned to a page, never unmapped, and made of atomics only.
        unsafe { &*start.unwrap().cast() }
    }

    /// Notes that a message was received, so that a successor finds it noted wholly or not at all. False when it was
    /// noted before.
    pub fn note(&self, sequence: u64, sender: u64, number: u64) -> bool {
        if sequence < self.last.load(Acquire) {
            self.repeated.fetch_add(1, Relaxed);
            return false;
        }
        self.noting[1].store(sender, Relaxed);
        self.noting[2].store(number, Relaxed);
        self.noting[0].store(sequence + 1, Release);
        self.finish_noting();
        true
    }

    /// Finishes what a predecessor has begun to note.
    pub fn finish_noting(&self) {
        let [last, sender, number] = [0, 1, 2].map(|index| self.noting[index].load(Acquire));
        if last > self.last.load(Acquire) {
            self.accounts[sender as usize].received.store(number + 1, Release);
            self.last.store(last, Release);
        }
    }

    pub fn account(&self, sender: u64) -> &Account {
        &self.accounts[sender as usize]
    }
}

/// Message `number` of `sender`: both, and bytes that they decide.
pub fn letter(sender: u64, number: u64) -> Vec<u8> {
    let chance = scatter(sender << 40 ^ number);
    let words = match chance % 64 {
        0 => 500,
        1..8 => chance >> 8 & 127,
        _ => chance >> 8 & 7,
    };
    let mut bytes = [sender, number].map(u64::to_ne_bytes).concat();
    bytes.extend((0..words).flat_map(|word| (chance ^ word).to_ne_bytes()));
    bytes.truncate(bytes.len() - (words > 0) as usize * (chance >> 20 & 7) as usize);
    bytes
}
