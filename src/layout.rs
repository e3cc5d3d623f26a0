//! What lies where in a segment. `docs/LAYOUT.md` is the normative text; the asserts below hold it to this file.
//!
//! ```text
//! 0        header          written once before the segment is published, never again
//! 4096     receiver area   written by the receiver only
//! 8192     senders area    written by the senders only: 512 bytes that they share, then 256 bytes a slot
//! control  data area       written by the senders only
//! ```

use crate::sync::{AtomicU32, AtomicU64};

/// Bytes that nothing else may share: two lines, because the adjacent one is fetched along.
pub(crate) const LINE: usize = 128;

/// The words that the receiver writes. In a ring for many readers: the words of the sender, whose place is the one of which
/// there is one.
#[repr(C, align(128))]
pub(crate) struct ReceiverArea {
    /// Units of the first record that is not released. Written by the receiver at each release; senders read it when
    /// their copy says that the ring is full, so it may be stale there by any amount, but never ahead.
    /// Many readers: the end of the last record, written by the sender after each.
    pub(crate) position: AtomicU64,
    _line_0: [u8; LINE - 8],

    /// `asleep << 34 | eager << 33 | closed << 32 | wanted`, see `wait.rs`. Read by a sender with each message, written when the
    /// receiver goes to sleep and comes back, closes or attaches. (Many readers: who sleeps here, and may be eager, is the sender.)
    pub(crate) attention: AtomicU64,
    /// Futex word: the last `wanted` of the senders that this receiver has granted.
    pub(crate) granted: AtomicU32,
    /// The `closings` of the senders area whose end this receiver has reported.
    pub(crate) closings_seen: AtomicU32,
    /// Futex word for the threads that watch for a death: counts each change of who is about to receive.
    pub(crate) attachments: AttachWord,
    /// 1 while the receiver releases without a fence.
    pub(crate) bare: AtomicU32,
    _line_1: [u8; LINE - 24],

    /// Who receives, see `ring/claim.rs`.
    pub(crate) claim: AtomicU64,
    /// The receiver's own counts.
    pub(crate) counts: Counts,
    /// Who is about to receive: a claim as well.
    pub(crate) coming: AtomicU64,
    _line_2: [u8; LINE - 16 - size_of::<Counts>()],

    /// Many readers: the oldest record that is still whole.
    pub(crate) floor: FloorWords,
    /// Many readers: up to where a sender that crashed may have left tags.
    pub(crate) unclean: AtomicU64,
    /// Elastic rings: units of the start of the chunk up to which memory was given back; senders count their room from here.
    pub(crate) freed: AtomicU64,
    _line_3: [u8; LINE - 56],

    _to_alarms: [u8; 1024 - 4 * LINE],
    /// One for each sender that waits for room: changed by the kernel when the receiver dies.
    pub(crate) alarms: [AlarmWord; MOST_SLOTS as usize],
    _to_told: [u8; 8],
    /// For each sender slot: whose death in it was told, as `Owner::mark`, so that the next receiver does not tell it again.
    pub(crate) told: [ToldWord; MOST_SLOTS as usize],
    _to_area: [u8; 4],
}

/// Where the oldest record that is whole stands. The entry that stands is never written; so a kill in between changes nothing.
#[repr(C)]
pub(crate) struct FloorWords {
    /// The lowest bit says which entry stands.
    pub(crate) index: AtomicU64,
    pub(crate) entries: [FloorEntry; 2],
}

/// A record, and how many messages were before it.
#[repr(C)]
pub(crate) struct FloorEntry {
    pub(crate) position: AtomicU64,
    pub(crate) number: AtomicU64,
}

/// A futex word that the kernel changes when the process of its area dies (`sys/watch.rs`), and eight bytes wide, so that a
/// list entry of the kernel's fits at the same distance from each. Not part of the protocol: always the hardware's atomics.
#[repr(C, align(8))]
#[derive(Default)]
pub(crate) struct AlarmWord(pub(crate) core::sync::atomic::AtomicU32);

/// The words that senders share. In a ring for many readers: the words that these share.
#[repr(C, align(128))]
pub(crate) struct SendersArea {
    /// Many senders: `position << 8 | slot of whoever reserved last`. One sender: the same, as of its last wait for room;
    /// with checksums as of its last message.
    pub(crate) tail: AtomicU64,
    _line_0: [u8; LINE - 8],

    /// `eager << 33 | wanted`, see `wait.rs`. Read by the receiver with each release, written when a sender goes to
    /// sleep.
    pub(crate) attention: AtomicU64,
    /// Futex word: the last `wanted` of the receiver that some sender has granted.
    pub(crate) granted: AtomicU32,
    /// How many senders have ever closed, modulo 2^32.
    pub(crate) closings: AtomicU32,
    /// Futex word for the threads that watch for a death: counts each change of who is about to send.
    pub(crate) attachments: AttachWord,
    /// How many senders publish without a fence. One that was killed stays counted: that costs the receiver a needless
    /// `membarrier` when it goes to sleep, and never a wake.
    pub(crate) bare: AtomicU32,
    _line_1: [u8; LINE - 24],

    /// One sender: the claims of the last ones, each at its turn, so that a message names its sender also when another
    /// has come since.
    pub(crate) turns: [AtomicU64; TURNS],
}

/// How many senders, one after the other, a ring with one sender remembers.
pub(crate) const TURNS: usize = if cfg!(ringpost_loom) { 2 } else { 32 };

/// The words of one sender, or of one of many readers.
#[repr(C, align(128))]
pub(crate) struct Slot {
    /// Who sends here, see `ring/claim.rs`.
    pub(crate) claim: AtomicU64,
    /// Many senders: the tail word that this one last saw before its CAS.
    pub(crate) intent_tail: AtomicU64,
    /// Many senders: the end, in units, of what it was about to reserve there.
    pub(crate) intent_end: AtomicU64,
    /// For the receiver: changed by the kernel when this sender dies.
    pub(crate) alarm: AlarmWord,
    /// Many readers: `position of the first record that this one has not released << 8 | times that the slot was taken`.
    pub(crate) position: AtomicU64,
    /// Who is about to send, or to read, here: a claim as well.
    pub(crate) coming: AtomicU64,
    /// Mailbox: which messages the one at this seat sleeps for.
    pub(crate) pick: AtomicU64,
    /// Mailbox: the futex word on which the one at this seat sleeps; odd as long as it is to be woken.
    pub(crate) bed: AtomicU32,
    _to_notice: [u8; 4],
    /// Mailbox: how far the registration of this seat is, see `ring/mailbox/notice.rs`.
    pub(crate) notice: AtomicU64,
    _line_0: [u8; LINE - 72],

    /// The sender's own counts.
    pub(crate) counts: Counts,
    /// Mailbox: what the one at this seat has received.
    pub(crate) received: Counts,
    /// Many senders: how it stands with the loan of the tail to this one, see `ring/loan.rs`. In a line that nobody else looks at:
    /// it is read behind each intent.
    pub(crate) loan: AtomicU64,
    _line_1: [u8; LINE - 2 * size_of::<Counts>() - 8],
}

/// A futex word of the threads that watch for a death. Not part of the protocol: always the hardware's atomics.
pub(crate) type AttachWord = core::sync::atomic::AtomicU32;

/// Whose death was told. Not part of the protocol: always the hardware's atomics.
pub(crate) type ToldWord = core::sync::atomic::AtomicU32;

/// What a participant counts of itself, added up over all who held its place. Only the participant writes it, so counting
/// costs no shared line; a kill between a step and its count leaves the count short by that step.
#[repr(C)]
#[derive(Default)]
pub struct Counts {
    /// Messages sent or received.
    pub(crate) messages: Count,
    /// Bytes of their payloads.
    pub(crate) bytes: Count,
    /// Times that the ring was found full or empty.
    pub(crate) refused: Count,
    /// Blocking calls that had to wait.
    pub(crate) blocked: Count,
    /// Times that a wait went to sleep.
    pub(crate) sleeps: Count,
    /// Times that the other side was woken.
    pub(crate) wakes: Count,
    /// Most bytes seen in use, sampled whenever a sender looks up the receiver's position.
    pub(crate) high_water: Count,
}

/// A number that one process writes and any may read. Not part of the protocol: always the hardware's atomics.
#[derive(Default)]
#[repr(transparent)]
pub(crate) struct Count(core::sync::atomic::AtomicU64);

impl Count {
    /// Adds without a locked instruction: there is one writer.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        // ORDERING: Relaxed, a statistic; nothing is read through it.
        self.0.store(self.get().wrapping_add(n), core::sync::atomic::Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn raise_to(&self, n: u64) {
        if n > self.get() {
            // ORDERING: Relaxed, a statistic; nothing is read through it.
            self.0.store(n, core::sync::atomic::Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // ORDERING: Relaxed, a statistic; nothing is read through it.
        self.0.load(core::sync::atomic::Ordering::Relaxed)
    }
}

/// Most senders that a ring can have: a slot number takes one byte, and 0 means nobody.
pub(crate) const MOST_SLOTS: u8 = 255;

/// Byte offset of the receiver area.
pub(crate) const RECEIVER_AREA: usize = 4096;
/// Byte offset of the senders area.
pub(crate) const SENDERS_AREA: usize = 8192;
/// Byte offset of the first slot.
pub(crate) const SLOTS: usize = SENDERS_AREA + 512;

/// Bytes before the data area, a multiple of `page` (a power of two).
pub(crate) const fn control_length(slots: u8, page: usize) -> usize {
    (SLOTS + slots as usize * size_of::<Slot>()).next_multiple_of(page)
}

#[cfg(not(ringpost_loom))]
const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Counts>() == 56);
    assert!(offset_of!(ReceiverArea, position) == 0);
    assert!(offset_of!(ReceiverArea, attention) == 128);
    assert!(offset_of!(ReceiverArea, granted) == 136);
    assert!(offset_of!(ReceiverArea, closings_seen) == 140);
    assert!(offset_of!(ReceiverArea, attachments) == 144);
    assert!(offset_of!(ReceiverArea, bare) == 148);
    assert!(offset_of!(ReceiverArea, claim) == 256);
    assert!(offset_of!(ReceiverArea, counts) == 264);
    assert!(offset_of!(ReceiverArea, coming) == 320);
    assert!(offset_of!(ReceiverArea, floor) == 384);
    assert!(offset_of!(ReceiverArea, unclean) == 424);
    assert!(offset_of!(ReceiverArea, freed) == 432);
    assert!(offset_of!(ReceiverArea, alarms) == 1024);
    assert!(offset_of!(ReceiverArea, told) == 3072);
    assert!(size_of::<AlarmWord>() == 8);
    assert!(RECEIVER_AREA + size_of::<ReceiverArea>() <= SENDERS_AREA);
    assert!(offset_of!(SendersArea, tail) == 0);
    assert!(offset_of!(SendersArea, attention) == 128);
    assert!(offset_of!(SendersArea, granted) == 136);
    assert!(offset_of!(SendersArea, closings) == 140);
    assert!(offset_of!(SendersArea, attachments) == 144);
    assert!(offset_of!(SendersArea, bare) == 148);
    assert!(offset_of!(SendersArea, turns) == 256);
    assert!(SENDERS_AREA + size_of::<SendersArea>() == SLOTS);
    assert!(offset_of!(Slot, claim) == 0);
    assert!(offset_of!(Slot, intent_tail) == 8);
    assert!(offset_of!(Slot, intent_end) == 16);
    assert!(offset_of!(Slot, alarm) == 24);
    assert!(offset_of!(Slot, position) == 32);
    assert!(offset_of!(Slot, coming) == 40);
    assert!(offset_of!(Slot, pick) == 48);
    assert!(offset_of!(Slot, bed) == 56);
    assert!(offset_of!(Slot, notice) == 64);
    assert!(offset_of!(Slot, counts) == 128);
    assert!(offset_of!(Slot, received) == 184);
    assert!(offset_of!(Slot, loan) == 240);
    assert!(size_of::<Slot>() == 256);
};

/// Loom's atomics are not zero bytes: the models make each area word by word.
#[cfg(ringpost_loom)]
mod in_loom {
    use super::*;

    impl ReceiverArea {
        pub(crate) fn new() -> Self {
            Self {
                position: AtomicU64::new(0),
                _line_0: [0; LINE - 8],
                attention: AtomicU64::new(0),
                granted: AtomicU32::new(0),
                closings_seen: AtomicU32::new(0),
                attachments: AttachWord::new(0),
                bare: AtomicU32::new(0),
                _line_1: [0; LINE - 24],
                claim: AtomicU64::new(0),
                counts: Counts::default(),
                coming: AtomicU64::new(0),
                _line_2: [0; LINE - 16 - size_of::<Counts>()],
                floor: FloorWords {
                    index: AtomicU64::new(0),
                    entries: core::array::from_fn(|_| FloorEntry {
                        position: AtomicU64::new(0),
                        number: AtomicU64::new(0),
                    }),
                },
                unclean: AtomicU64::new(0),
                freed: AtomicU64::new(0),
                _line_3: [0; LINE - 56],
                _to_alarms: [0; 1024 - 4 * LINE],
                alarms: core::array::from_fn(|_| AlarmWord::default()),
                _to_told: [0; 8],
                told: core::array::from_fn(|_| ToldWord::new(0)),
                _to_area: [0; 4],
            }
        }
    }

    impl SendersArea {
        pub(crate) fn new() -> Self {
            Self {
                tail: AtomicU64::new(0),
                _line_0: [0; LINE - 8],
                attention: AtomicU64::new(0),
                granted: AtomicU32::new(0),
                closings: AtomicU32::new(0),
                attachments: AttachWord::new(0),
                bare: AtomicU32::new(0),
                _line_1: [0; LINE - 24],
                turns: core::array::from_fn(|_| AtomicU64::new(0)),
            }
        }
    }

    impl Slot {
        pub(crate) fn new() -> Self {
            Self {
                claim: AtomicU64::new(0),
                intent_tail: AtomicU64::new(0),
                intent_end: AtomicU64::new(0),
                alarm: AlarmWord::default(),
                position: AtomicU64::new(0),
                coming: AtomicU64::new(0),
                pick: AtomicU64::new(0),
                bed: AtomicU32::new(0),
                _to_notice: [0; 4],
                notice: AtomicU64::new(0),
                _line_0: [0; LINE - 72],
                counts: Counts::default(),
                received: Counts::default(),
                loan: AtomicU64::new(0),
                _line_1: [0; LINE - 2 * size_of::<Counts>() - 8],
            }
        }
    }
}
