//! The memory of one ring: the only place that turns a position into an address.
//!
//! Everything here was validated before: capacity and key are private copies, so no word that a peer can write takes
//! part in an address. Under loom the same type has a body of loom cells.

use super::{
    elastic::Elastic,
    position::{Geometry, Position},
    record::{self, Info, State},
    spsc,
};
use crate::{
    layout::{ReceiverArea, SendersArea, Slot},
    sync::{AtomicU64, Ordering::*, fence},
};

#[cfg(ringpost_loom)]
pub use in_loom::Memory;
#[cfg(not(ringpost_loom))]
pub use in_memory::Memory;

#[cfg(not(ringpost_loom))]
mod in_memory {
    use super::*;
    use crate::layout::{RECEIVER_AREA, SENDERS_AREA, SLOTS};
    use core::ptr::NonNull;
    use std::any::Any;

    /// The memory of one ring, kept alive by what it was made from.
    pub struct Memory {
        pub(super) geometry: Geometry,
        pub(super) key: u64,
        pub(super) slots: u8,
        pub(super) elastic: Option<Elastic>,
        control: NonNull<u8>,
        data: NonNull<u8>,
        _backing: Box<dyn Any + Send + Sync>,
    }

    // SAFETY: the pointers are to memory that `_backing` owns, which may move between threads; all access that is shared
    // goes through atomics, and payloads have one owner at a time by the protocol.
    unsafe impl Send for Memory {}
    // SAFETY: as for Send.
    unsafe impl Sync for Memory {}

    impl Memory {
        /// # Safety
        /// While `backing` lives, `control` must be valid for reads and writes of the control area of `slots` slots and
        /// `data` for `geometry.capacity()` bytes, twice that when mirrored; for reads alone where only the other side of
        /// the ring writes and only one side uses this value; both aligned to 128 bytes and changed
        /// by others only as another `Memory` (of this or another process) or as atomic words would.
        pub(crate) unsafe fn new(
            geometry: Geometry,
            key: u64,
            slots: u8,
            control: NonNull<u8>,
            data: NonNull<u8>,
            backing: Box<dyn Any + Send + Sync>,
        ) -> Self {
            assert!(control.as_ptr().addr().is_multiple_of(128) && data.as_ptr().addr().is_multiple_of(128));
            Self { geometry, key, slots, elastic: None, control, data, _backing: backing }
        }

        #[inline]
        pub(crate) fn receiver(&self) -> &ReceiverArea {
            // SAFETY: the control area holds the receiver area at this offset (`new`), made of atomics only.
            unsafe { self.control.add(RECEIVER_AREA).cast().as_ref() }
        }

        #[inline]
        pub(crate) fn senders(&self) -> &SendersArea {
            // SAFETY: the control area holds the senders area at this offset (`new`), made of atomics only.
            unsafe { self.control.add(SENDERS_AREA).cast().as_ref() }
        }

        /// Slot `number`, from 1; `None` where the ring has no such slot.
        #[inline]
        pub(crate) fn slot(&self, number: u8) -> Option<&Slot> {
            let index = number.checked_sub(1).filter(|_| number <= self.slots)?;
            // SAFETY: the control area holds `slots` slots from this offset (`new`), made of atomics only.
            Some(unsafe { self.control.add(SLOTS).cast::<Slot>().add(index as usize).as_ref() })
        }

        /// The header word at `position`.
        #[inline]
        pub(super) fn word(&self, position: Position) -> &AtomicU64 {
            let offset = self.geometry.offset(position) as usize;
            // SAFETY: the offset is masked to the capacity and a multiple of 8; the area is valid (`new`). Payload bytes
            // that lie here in another lap are written by plain stores, but before a release that the reader of this
            // word has acquired (R1/S1, P1/C1).
            unsafe { self.data.add(offset).cast().as_ref() }
        }

        /// The payload of a record at `position`: `length` bytes from here lie in one piece.
        ///
        /// `length` must be at most `geometry.longest_payload()`.
        #[inline]
        pub(crate) fn payload(&self, position: Position, length: u32) -> NonNull<u8> {
            debug_assert!(length as u64 <= self.geometry.longest_payload());
            let offset = self.geometry.payload_offset(position, length as u64) as usize;
            // SAFETY: the offset is below the capacity, within the area (`new`).
            unsafe { self.data.add(offset) }
        }

        /// Asks for the line at `position` to write to, long before it is needed: it was last used a lap ago, by the other
        /// side.
        #[inline]
        pub(crate) fn prefetch_to_write(&self, position: Position) {
            self.prefetch_to_write_at(self.geometry.offset(position));
        }

        /// The same for the line at this offset of the data area, which must be less than the capacity.
        #[inline]
        pub(in crate::ring) fn prefetch_to_write_at(&self, offset: u64) {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            {
                let word = self.data_at(offset).as_ptr();
                // SAFETY: a hint about an address that is mapped; it changes nothing.
                unsafe {
                    core::arch::asm!("prefetchw [{}]", in(reg) word, options(nostack, preserves_flags))
                };
            }
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            let _ = offset;
        }

        /// Asks for the line at `position` to read.
        #[inline]
        pub(crate) fn prefetch_to_read(&self, position: Position) {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            {
                let word = self.word(position);
                // SAFETY: a hint about an address that is mapped; it changes nothing.
                unsafe {
                    core::arch::asm!("prefetcht0 [{}]", in(reg) word, options(nostack, preserves_flags))
                };
            }
            #[cfg(not(all(target_arch = "x86_64", not(miri))))]
            let _ = position;
        }

        /// Whether a message seems to stand at `position`: a hint.
        #[inline]
        pub(in crate::ring) fn seems_committed(&self, position: Position) -> bool {
            self.glimpse(position) == record::tag(self.key, position, State::Committed)
        }

        /// The word at `position`, where a sender may be writing its payload by plain stores: so it is read in a way that the compiler
        /// does not see through. Not under Miri, to which any such race is an error: there it is no tag.
        #[inline]
        pub(in crate::ring) fn glimpse(&self, position: Position) -> u64 {
            let from = self.data_at(self.geometry.offset(position)).as_ptr();
            #[cfg(miri)]
            {
                let _ = from;
                self.key ^ position.with_low_byte(0)
            }
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            {
                let word: u64;
                // SAFETY: reads a word of the area, which is mapped.
                unsafe {
                    core::arch::asm!("mov {}, [{}]", out(reg) word, in(reg) from,
                        options(nostack, readonly, preserves_flags))
                };
                word
            }
            #[cfg(not(any(target_arch = "x86_64", miri)))]
            {
                // SAFETY: as above; the offset is a multiple of 8.
                unsafe { from.cast::<u64>().read_volatile() }
            }
        }

        /// The byte at this offset of the data area, which must be less than the capacity.
        #[inline]
        pub(in crate::ring) fn data_at(&self, offset: u64) -> NonNull<u8> {
            debug_assert!(offset < self.geometry.capacity());
            // SAFETY: within the area (`new`), as the caller promises by its shape, which was checked.
            unsafe { self.data.add(offset as usize) }
        }

        /// Moves the first `to` bytes of a payload that was written as one of `from` bytes to where one of `to` lies.
        pub(crate) fn shorten(&self, position: Position, from: u32, to: u32) {
            let (old, new) = (self.payload(position, from), self.payload(position, to));
            if old != new {
                // SAFETY: both lie in the reservation at `position`, which the caller owns, and hold `to` bytes; they may
                // overlap.
                unsafe { old.copy_to(new, to as usize) };
            }
        }
    }
}

#[cfg(ringpost_loom)]
mod in_loom {
    use super::*;
    use loom::cell::UnsafeCell;

    /// The memory of one ring as loom sees it: header words and payload words are apart, so that loom checks payload
    /// accesses for races; headers that are really stale payload are the business of the explicit-state model.
    pub struct Memory {
        pub(super) geometry: Geometry,
        pub(super) key: u64,
        pub(super) slots: u8,
        pub(super) elastic: Option<Elastic>,
        receiver: ReceiverArea,
        senders: SendersArea,
        slot: Vec<Slot>,
        headers: Vec<AtomicU64>,
        payloads: Vec<UnsafeCell<u64>>,
    }

    impl Memory {
        pub(crate) fn new(geometry: Geometry, key: u64, slots: u8, start: Position) -> Self {
            let units = geometry.capacity_units();
            let memory = Self {
                geometry,
                key,
                slots,
                elastic: None,
                receiver: ReceiverArea::new(),
                senders: SendersArea::new(),
                slot: (0..slots).map(|_| Slot::new()).collect(),
                headers: (0..units).map(|_| AtomicU64::new(0)).collect(),
                payloads: (0..units).map(|_| UnsafeCell::new(0)).collect(),
            };
            memory.start_at(start);
            memory
        }

        pub(crate) fn receiver(&self) -> &ReceiverArea {
            &self.receiver
        }

        pub(crate) fn senders(&self) -> &SendersArea {
            &self.senders
        }

        pub(crate) fn slot(&self, number: u8) -> Option<&Slot> {
            self.slot.get((number as usize).checked_sub(1)?)
        }

        pub(super) fn word(&self, position: Position) -> &AtomicU64 {
            &self.headers[self.geometry.offset(position) as usize / 8]
        }

        /// Makes the headers of so many bytes zero, as memory that was taken is. Whoever finds them so comes after.
        pub(crate) fn clear(&self, offset: u64, bytes: u64) {
            let units = offset as usize / 8..(offset + bytes) as usize / 8;
            // ORDERING: Release; in the kernel's stead, which orders more.
            self.headers[units].iter().for_each(|word| word.store(0, Release));
        }

        /// Copies the headers of so many bytes, as a system call would.
        pub(crate) fn copy(&self, offset: u64, bytes: &mut [u8]) {
            for (word, copy) in self.headers[offset as usize / 8..].iter().zip(bytes.chunks_exact_mut(8)) {
                // ORDERING: Relaxed, in the kernel's stead, which orders more.
                copy.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
            }
        }

        fn payload_cells(&self, position: Position, length: u32) -> &[UnsafeCell<u64>] {
            let first = self.geometry.payload_offset(position, length as u64) as usize / 8;
            &self.payloads[first..first + (length as usize).div_ceil(8)]
        }

        /// Fills the payload with `value`.
        pub(crate) fn write_payload(&self, position: Position, length: u32, value: u64) {
            for cell in self.payload_cells(position, length) {
                // SAFETY: loom itself checks that nobody else is at it.
                cell.with_mut(|word| unsafe { *word = value });
            }
        }

        /// The value that fills the payload; panics when it is torn.
        pub(crate) fn read_payload(&self, position: Position, length: u32) -> u64 {
            // SAFETY: loom itself checks that nobody writes meanwhile.
            let mut words =
                self.payload_cells(position, length).iter().map(|c| c.with(|word| unsafe { *word }));
            let first = words.next().unwrap_or_default();
            assert!(words.all(|word| word == first), "torn payload");
            first
        }

        pub(crate) fn prefetch_to_write(&self, _: Position) {}

        pub(crate) fn prefetch_to_read(&self, _: Position) {}

        pub(in crate::ring) fn seems_committed(&self, _: Position) -> bool {
            false
        }

        pub(in crate::ring) fn glimpse(&self, position: Position) -> u64 {
            // ORDERING: Relaxed; as the product's.
            self.word(position).load(Relaxed)
        }

        pub(crate) fn shorten(&self, position: Position, from: u32, to: u32) {
            assert_eq!(
                self.geometry.payload_offset(position, from as u64),
                self.geometry.payload_offset(position, to as u64),
                "the models truncate where nothing moves"
            );
        }
    }
}

impl Memory {
    /// Capacity and wrap rule.
    #[inline]
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// A ring whose memory comes and goes. It must not have been used yet.
    pub(crate) fn with_elastic(mut self, elastic: Elastic) -> Self {
        self.elastic = Some(elastic);
        self
    }

    /// How the memory comes and goes, where it does.
    #[inline]
    pub(crate) fn elastic(&self) -> Option<&Elastic> {
        self.elastic.as_ref()
    }

    /// Most units that one reservation can have: those that are free in every ring that is empty.
    pub(crate) fn most_units(&self) -> u64 {
        self.geometry.capacity_units() - self.elastic().map_or(0, Elastic::chunk)
    }

    /// Number of sender slots.
    pub(crate) fn slots(&self) -> u8 {
        self.slots
    }

    /// Slots with their numbers.
    pub(crate) fn all_slots(&self) -> impl Iterator<Item = (u8, &Slot)> + Clone {
        (1..=self.slots).filter_map(|number| Some((number, self.slot(number)?)))
    }

    /// First position of a ring that is not published yet.
    pub(crate) fn start_at(&self, start: Position) {
        // ORDERING: Relaxed; the ring is published to others by what happens after.
        self.receiver().position.store(start.units(), Relaxed);
        // ORDERING: as above.
        self.senders().tail.store(start.with_low_byte(spsc::SLOT), Relaxed);
        // ORDERING: as above.
        self.receiver().floor.entries[0].position.store(start.units(), Relaxed);
        // ORDERING: as above.
        self.receiver().unclean.store(start.units(), Relaxed);
        if let Some(elastic) = &self.elastic {
            // ORDERING: as above.
            self.receiver().freed.store(elastic.floor(start).units(), Relaxed);
        }
        for (_, slot) in self.all_slots() {
            // ORDERING: as above. An intent that ends where it begins owns nothing.
            slot.intent_tail.store(start.with_low_byte(0), Relaxed);
            // ORDERING: as above.
            slot.intent_end.store(start.units(), Relaxed);
        }
    }

    /// The receiver's position.
    #[inline]
    pub(crate) fn head(&self) -> Position {
        // ORDERING: Acquire S1; pairs with Release R1 in `Consumer::release`: whoever sees the position writes over what
        // lies before it only after the receiver has read it.
        Position::new(self.receiver().position.load(Acquire))
    }

    /// The position from which a sender counts its room: the receiver's, or behind it where memory is still to be given back.
    pub(crate) fn room_from(&self) -> Position {
        let Some(elastic) = &self.elastic else { return self.head() };
        // ORDERING: Acquire V2; pairs with Release V1 in `GivenBack::take`: memory is put where some was taken only after
        // that, and written only after the receiver has read what lay there.
        elastic.floor(Position::new(self.receiver().freed.load(Acquire)))
    }

    /// What the record at `position` is, when its header is valid there.
    #[inline]
    pub(super) fn state(&self, position: Position) -> Option<State> {
        // ORDERING: Acquire C1; pairs with Release P1 in `set_state`: a valid tag shows info and payload.
        record::state_at(self.key, position, self.word(position).load(Acquire))
    }

    /// Whether the record at `position` is a message.
    #[inline(always)]
    pub(super) fn is_committed(&self, position: Position) -> bool {
        // ORDERING: Acquire C1, as in `state`.
        self.word(position).load(Acquire) == record::tag(self.key, position, State::Committed)
    }

    /// What the record at `position` is by a tag that was read there in another way.
    pub(super) fn state_of(&self, tag: u64, position: Position) -> Option<State> {
        record::state_at(self.key, position, tag)
    }

    /// The record at `position`, by its header, if one is valid there; where a payload may be just being written instead.
    pub(super) fn header_if_any(&self, position: Position) -> Option<(State, Info)> {
        let state = self.state_of(self.glimpse(position), position)?;
        // ORDERING: C1, Acquire fence; pairs with Release P1 in `set_state`: as in `state`.
        fence(Acquire);
        Some((state, Info(self.glimpse(position.plus(1)))))
    }

    /// Makes the header at `position` valid: the record is there from now on.
    #[inline]
    pub(super) fn set_state(&self, position: Position, state: State) {
        // ORDERING: Release P1; pairs with Acquire C1 in `state`: info and payload come before the tag.
        self.word(position).store(record::tag(self.key, position, state), Release);
    }

    /// Changes the state of the record at `position` if it still is `from`; false when it is not.
    pub(super) fn change_state(&self, position: Position, from: State, to: State) -> bool {
        let [from, to] = [from, to].map(|state| record::tag(self.key, position, state));
        // ORDERING: Relaxed; whoever sees the new tag acquires (C1) what the first one released (P1): a CAS goes on with
        // its release sequence. The payload was acquired with `from`, or is the caller's own.
        self.word(position).compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }

    /// The info of a record whose header is valid.
    #[inline]
    pub(super) fn info(&self, position: Position) -> Info {
        // ORDERING: Relaxed; the tag was acquired before (C1).
        Info(self.word(position.plus(1)).load(Relaxed))
    }

    #[inline]
    pub(super) fn set_info(&self, position: Position, info: Info) {
        // ORDERING: Relaxed; the tag is released after (P1).
        self.word(position.plus(1)).store(info.0, Relaxed);
    }

    /// Makes the `length` units from `position` on, at least one, a stretch that the receiver passes over. The
    /// stretch may hold valid tags: nobody looks at them.
    pub(super) fn discard(&self, position: Position, info: Info) {
        if info.length() == 1 {
            self.set_state(position, State::Filler);
        } else {
            self.set_info(position, info);
            self.set_state(position, State::Discarded);
        }
    }

    /// Makes every header from `position` to the end of the lap invalid.
    pub(super) fn wipe(&self, position: Position, units: u64) {
        for position in (0..units).map(|n| position.plus(n)) {
            // ORDERING: Relaxed; an invalid word says nothing, and the receiver looks at `position` itself at most.
            self.word(position).store(self.key ^ position.with_low_byte(0), Relaxed);
        }
    }
}
