//! The memory of one mailbox: where its cells and its orders lie.
//!
//! ```text
//! desk            who sleeps, what lies aside, who alone may receive
//! levels          one for each priority: where its order begins and ends
//! orders          for each level twice as many entries as there are cells
//! cells           32 bytes of words, then the payload, to a multiple of 64 bytes
//! ```

use super::words::{Entry, Label, Phase, State};
use crate::{
    layout::LINE,
    ring::memory::Memory,
    sync::{AtomicU64, Ordering::*, fence},
};
use std::sync::Arc;

/// Most cells: an entry has 16 bits for one.
pub(crate) const MOST_CELLS: u32 = 1 << 16;
/// Most levels of priority, as POSIX asks for at least.
pub(crate) const MOST_LEVELS: u8 = 32;
/// Most seats: a state has 6 bits for one, and 0 is nobody's.
pub(crate) const MOST_SEATS: u8 = 63;

/// What a mailbox is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// A power of two, at most [`MOST_CELLS`].
    pub(crate) cells: u32,
    /// From 1 to [`MOST_LEVELS`].
    pub(crate) levels: u8,
    /// Bytes of the longest message.
    pub(crate) longest: u32,
}

impl Shape {
    const CELL_WORDS: u64 = 32;

    /// Entries of one order.
    pub(crate) fn entries(self) -> u64 {
        2 * u64::from(self.cells)
    }

    /// Bytes from one cell to the next.
    pub(crate) fn stride(self) -> u64 {
        (Self::CELL_WORDS + u64::from(self.longest)).next_multiple_of(64)
    }

    fn orders(self) -> u64 {
        size_of::<Common>() as u64 + u64::from(self.levels) * size_of::<Level>() as u64
    }

    fn first_cell(self) -> u64 {
        self.orders() + u64::from(self.levels) * self.entries() * 8
    }

    /// Bytes of the whole.
    pub(crate) fn length(self) -> u64 {
        self.first_cell() + u64::from(self.cells) * self.stride()
    }
}

/// What concerns the whole mailbox. Read with each message, seldom written.
#[repr(C, align(128))]
pub(crate) struct Common {
    /// Seats that sleep until there is a message, a bit each.
    pub(crate) receivers: AtomicU64,
    /// Seats that sleep until there is room, a bit each.
    pub(crate) senders: AtomicU64,
    /// `how often a message was laid aside << 32 | how often by then, when somebody last found none`: messages may lie aside when
    /// the two differ. Never goes back, so that a late finder of none takes nothing back.
    pub(crate) asides: AtomicU64,
    /// The seat that alone may receive, as a state names it; 0 when each may.
    pub(crate) only: AtomicU64,
    /// The levels at which messages were ever sent, a bit each: the others need not be looked at.
    pub(crate) used: AtomicU64,
    /// 1 when the mailbox was closed for all.
    pub(crate) closed: AtomicU64,
    /// Seats that may be registered to be told of a message, a bit each.
    pub(crate) registered: AtomicU64,
    _line: [u8; LINE - 56],
}

/// One order: the tickets from `head` to `tail` are those of messages that may be there. Before `head` none is; `tail` is
/// behind by one while a sender is between its entry and it.
#[repr(C, align(128))]
pub(crate) struct Level {
    pub(crate) tail: AtomicU64,
    _line_0: [u8; LINE - 8],
    pub(crate) head: AtomicU64,
    _line_1: [u8; LINE - 8],
}

/// The words of one cell.
#[repr(C)]
pub(crate) struct Cell {
    state: AtomicU64,
    label: AtomicU64,
    /// Who has sent the message: a claim.
    pub(crate) sender: AtomicU64,
    _spare: [u8; 8],
}

#[cfg(not(ringpost_loom))]
const _: () = {
    assert!(size_of::<Common>() == 128 && size_of::<Level>() == 256);
    assert!(size_of::<Cell>() as u64 == Shape::CELL_WORDS);
};

impl Cell {
    pub(super) fn state(&self) -> State {
        // ORDERING: Acquire M2; pairs with the AcqRel of M1: whoever sees a message given back or set aside, or a cell free,
        // sees all that was done with it before.
        State(self.state.load(Acquire))
    }

    /// Changes the state as long as it is `from`.
    pub(super) fn change(&self, from: State, to: State) -> bool {
        // ORDERING: AcqRel M1; pairs with M2 and with itself: a cell goes from hand to hand, and each sees what the one before
        // has done with the payload.
        self.state.compare_exchange(from.0, to.0, AcqRel, Relaxed).is_ok()
    }

    pub(super) fn label(&self) -> u64 {
        // ORDERING: Relaxed; the entry or the state was acquired before.
        self.label.load(Relaxed)
    }

    pub(super) fn set_label(&self, label: u64) {
        // ORDERING: Relaxed; released with the entry (M3).
        self.label.store(label, Relaxed);
    }
}

#[cfg(ringpost_loom)]
pub use in_loom::Area;
#[cfg(not(ringpost_loom))]
pub use in_memory::Area;

#[cfg(not(ringpost_loom))]
mod in_memory {
    use super::*;
    use crate::{layout::Slot, ring::mailbox::Seat};
    use core::ptr::NonNull;

    /// The memory of one mailbox.
    pub struct Area {
        memory: Arc<Memory>,
        shape: Shape,
    }

    impl Area {
        /// `shape` must fit into the data area.
        pub(crate) fn new(memory: Arc<Memory>, shape: Shape) -> Self {
            assert!(shape.length() <= memory.geometry().capacity(), "a header is checked when it is decoded");
            Self { memory, shape }
        }

        pub(crate) fn memory(&self) -> &Memory {
            &self.memory
        }

        /// The slot of a seat.
        pub(crate) fn slot(&self, seat: Seat) -> &Slot {
            self.memory.slot(seat.number).expect("a seat that was taken")
        }

        pub(crate) fn shape(&self) -> Shape {
            self.shape
        }

        pub(crate) fn common(&self) -> &Common {
            // SAFETY: the data area begins with the desk (`new`), made of atomics only.
            unsafe { self.memory.data_at(0).cast().as_ref() }
        }

        /// Level `number`, the last one where there are not so many.
        pub(crate) fn level(&self, number: u8) -> &Level {
            let number = u64::from(number.min(self.shape.levels - 1));
            let offset = size_of::<Common>() as u64 + number * size_of::<Level>() as u64;
            // SAFETY: one of `levels` in the area (`new`), made of atomics only.
            unsafe { self.memory.data_at(offset).cast().as_ref() }
        }

        /// The entry for this ticket.
        pub(super) fn entry_word(&self, level: u8, ticket: u64) -> &AtomicU64 {
            let (level, entries) = (u64::from(level.min(self.shape.levels - 1)), self.shape.entries());
            let offset = self.shape.orders() + (level * entries + (ticket & (entries - 1))) * 8;
            // SAFETY: one of the entries in the area (`new`): the number of entries is a power of two.
            unsafe { self.memory.data_at(offset).cast().as_ref() }
        }

        fn offset_of(&self, cell: u16) -> u64 {
            self.shape.first_cell()
                + u64::from(u32::from(cell) & (self.shape.cells - 1)) * self.shape.stride()
        }

        pub(crate) fn cell(&self, number: u16) -> &Cell {
            // SAFETY: one of the cells in the area (`new`), whose words are atomics only.
            unsafe { self.memory.data_at(self.offset_of(number)).cast().as_ref() }
        }

        /// The payload of a cell: room for the longest message.
        pub(crate) fn payload(&self, cell: u16) -> NonNull<u8> {
            self.memory.data_at(self.offset_of(cell) + Shape::CELL_WORDS)
        }

        /// Asks for the cell that comes so many after this one, to write to.
        pub(in crate::ring) fn prefetch(&self, cell: u16, after: u16) {
            self.memory.prefetch_to_write_at(self.offset_of(cell.wrapping_add(after)));
        }
    }
}

#[cfg(ringpost_loom)]
mod in_loom {
    use super::*;
    use loom::cell::UnsafeCell;

    /// The memory of one mailbox as loom sees it; each payload is one word.
    pub struct Area {
        memory: Arc<Memory>,
        shape: Shape,
        common: Common,
        levels: Vec<Level>,
        entries: Vec<AtomicU64>,
        cells: Vec<Cell>,
        payloads: Vec<UnsafeCell<u64>>,
    }

    impl Area {
        pub(crate) fn new(memory: Arc<Memory>, shape: Shape) -> Self {
            let word = || AtomicU64::new(0);
            let cells = 0..shape.cells;
            Self {
                memory,
                shape,
                common: Common {
                    receivers: word(),
                    senders: word(),
                    asides: word(),
                    only: word(),
                    used: word(),
                    closed: word(),
                    registered: word(),
                    _line: [0; LINE - 56],
                },
                levels: (0..shape.levels)
                    .map(|_| Level {
                        tail: word(),
                        _line_0: [0; LINE - 8],
                        head: word(),
                        _line_1: [0; LINE - 8],
                    })
                    .collect(),
                entries: (0..u64::from(shape.levels) * shape.entries()).map(|_| word()).collect(),
                cells: cells
                    .clone()
                    .map(|_| Cell { state: word(), label: word(), sender: word(), _spare: [0; 8] })
                    .collect(),
                payloads: cells.map(|_| UnsafeCell::new(0)).collect(),
            }
        }

        pub(crate) fn memory(&self) -> &Memory {
            &self.memory
        }

        pub(crate) fn shape(&self) -> Shape {
            self.shape
        }

        pub(crate) fn common(&self) -> &Common {
            &self.common
        }

        pub(crate) fn level(&self, number: u8) -> &Level {
            &self.levels[number as usize]
        }

        pub(super) fn entry_word(&self, level: u8, ticket: u64) -> &AtomicU64 {
            &self.entries[(u64::from(level) * self.shape.entries() + ticket % self.shape.entries()) as usize]
        }

        pub(crate) fn cell(&self, number: u16) -> &Cell {
            &self.cells[number as usize]
        }

        pub(in crate::ring) fn prefetch(&self, _: u16, _: u16) {}

        pub(crate) fn write_payload(&self, cell: u16, value: u64) {
            // SAFETY: loom itself checks that nobody else is at it.
            self.payloads[cell as usize].with_mut(|word| unsafe { *word = value });
        }

        pub(crate) fn read_payload(&self, cell: u16) -> u64 {
            // SAFETY: loom itself checks that nobody writes meanwhile.
            self.payloads[cell as usize].with(|word| unsafe { *word })
        }
    }
}

impl Area {
    /// The lap in which this ticket's entry is written.
    pub(super) fn turn(&self, ticket: u64) -> u32 {
        (ticket / self.shape().entries() + 1) as u32
    }

    pub(super) fn entry(&self, level: u8, ticket: u64) -> Entry {
        // ORDERING: Acquire M4; pairs with Release M3 in `install`: whoever sees the entry sees the message.
        Entry(self.entry_word(level, ticket).load(Acquire))
    }

    /// Puts an entry where `before` stands: the message is sent.
    pub(super) fn install(&self, level: u8, ticket: u64, before: Entry, entry: Entry) -> bool {
        // ORDERING: Release M3; pairs with Acquire M4 in `entry`: payload, label and state come before it.
        self.entry_word(level, ticket).compare_exchange(before.0, entry.0, Release, Relaxed).is_ok()
    }

    /// Numbers of the cells.
    pub(crate) fn cells(&self) -> impl Iterator<Item = u16> + use<> {
        (0..self.shape().cells).map(|number| number as u16)
    }

    pub(crate) fn state(&self, cell: u16) -> State {
        self.cell(cell).state()
    }

    /// Whether the message of this state still lies in the cell and can be taken, so that what was read of it is whole. (A cell in
    /// which a message lies is not written to before it was taken, and then it is another's.)
    pub(crate) fn is_still(&self, cell: u16, state: State) -> bool {
        // ORDERING: Acquire N2; pairs with Release N1 in `Clerk::fill`: the payload was read before the next load.
        fence(Acquire);
        let now = self.state(cell);
        now.phase() == Phase::Ready && now.is_of_same(state)
    }

    /// The claim of who has sent the message in a cell.
    pub(crate) fn sender(&self, cell: u16) -> u64 {
        // ORDERING: Relaxed; as the label.
        self.cell(cell).sender.load(Relaxed)
    }

    /// What the message in a cell is, whatever a hostile sender has written there.
    pub(crate) fn label(&self, cell: u16) -> Label {
        let label = Label::decode(self.cell(cell).label());
        let (longest, last) = (self.shape().longest, self.shape().levels - 1);
        Label { length: label.length.min(longest), level: label.level.min(last), ..label }
    }
}
