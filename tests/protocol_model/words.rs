//! The data area word by word, what a sender may be asked to send, and the stores that this takes.

use super::search::Broken;

/// Units of the data area: a power of two that divides 256, so positions may wrap.
pub const CAPACITY: u8 = 8;

/// All rings start just below the wrap of their positions.
pub const BIRTH: u8 = 250;

/// Whether position `a` lies at or behind `b` in the order of the ring.
pub fn reached(a: u8, b: u8) -> bool {
    a.wrapping_sub(b) < 128
}

/// One word of shared memory. Tag, info and payload never pass for each other: tags are unforgeable, and an
/// info or payload word is read only below a valid tag (finding another kind there is a violation).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Word(u16);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    Committed = 1,
    Discarded = 2,
    Filler = 3,
}

/// Which message it is (in `kind`, so that an empty message says it too): sender, its operation, record in
/// that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Id {
    pub sender: u8,
    pub op: u8,
    pub record: u8,
}

impl Id {
    fn bits(self) -> u16 {
        u16::from(self.sender) << 4 | u16::from(self.op) << 1 | u16::from(self.record)
    }

    /// Its place in a set of what one sender sent.
    pub fn bit(self) -> u8 {
        self.op * 2 + self.record
    }
}

/// Enters a message in the set of what one sender's receivers got. Only the first message of a new receiver
/// may be one that its predecessor got too.
pub fn hand_over(delivered: &mut u8, id: Id, fresh: bool) -> Result<(), Broken> {
    if *delivered >> id.bit() > 1 {
        return Err("a sender's messages come out of order");
    }
    if *delivered >> id.bit() == 1 && !fresh {
        return Err("a message is delivered twice to one receiver");
    }
    *delivered |= 1 << id.bit();
    Ok(())
}

/// All records of the finished operations were delivered, and none of those that were given up.
pub fn nothing_missing(finished: &[Op], gave_up: u8, delivered: u8) -> Result<(), Broken> {
    for (number, op) in finished.iter().enumerate() {
        for record in 0..op.messages().count() {
            let got = delivered >> (number * 2 + record) & 1 == 1;
            if got == (gave_up >> number & 1 == 1) {
                return Err("a committed message was never delivered");
            }
        }
    }
    Ok(())
}

pub struct Info {
    pub units: u8,
    pub slot: u8,
    pub previous: u8,
    pub id: Id,
}

impl Word {
    fn tag(position: u8, tag: Tag) -> Word {
        Word(1 << 14 | (tag as u16) << 8 | u16::from(position))
    }

    fn info(info: Info) -> Word {
        let Info { units, slot, previous, id } = info;
        Word(2 << 14 | u16::from(units) << 11 | u16::from(slot) << 9 | u16::from(previous) << 7 | id.bits())
    }

    fn payload(id: Id, word: u8) -> Word {
        Word(3 << 14 | id.bits() << 3 | u16::from(word))
    }
}

/// The data area, with whatever earlier laps left in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Memory([Word; CAPACITY as usize]);

impl Memory {
    fn word(&self, position: u8) -> Word {
        self.0[usize::from(position % CAPACITY)]
    }

    pub fn store(&mut self, position: u8, word: Word) {
        self.0[usize::from(position % CAPACITY)] = word;
    }

    /// The tag, if it is valid at exactly this position.
    pub fn tag(&self, position: u8) -> Option<Tag> {
        let word = self.word(position);
        [Tag::Committed, Tag::Discarded, Tag::Filler]
            .into_iter()
            .find(|tag| word == Word::tag(position, *tag))
    }

    pub fn erase(&mut self, position: u8) {
        self.store(position, Word::default());
    }

    /// The info word of the record at `position`.
    pub fn info(&self, position: u8) -> Result<Info, Broken> {
        let Word(word) = self.word(position.wrapping_add(1));
        let field = |shift: u16, bits: u16| (word >> shift & ((1 << bits) - 1)) as u8;
        if word >> 14 != 2 {
            return Err("an info word was overwritten under a valid tag");
        }
        let id = Id { sender: field(4, 3), op: field(1, 3), record: field(0, 1) };
        Ok(Info { units: field(11, 3), slot: field(9, 2), previous: field(7, 2), id })
    }

    /// Whether the payload at `position` is what the sender of `id` wrote.
    pub fn payload_is(&self, position: u8, id: Id, units: u8) -> bool {
        (2..units).all(|word| self.word(position.wrapping_add(word)) == Word::payload(id, word))
    }
}

/// What a sender does; sizes are payload words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Send(u8),
    /// As `Send`, but may give up when there is no space or somebody else was faster.
    Try(u8),
    /// Two records in one reservation.
    Batch(u8, u8),
    /// Reserves, then drops the reservation.
    Discard(u8),
    /// Reserves more than it commits.
    Truncate {
        reserved: u8,
        kept: u8,
    },
}

impl Op {
    pub fn units(self) -> u8 {
        match self {
            Op::Send(words) | Op::Try(words) | Op::Discard(words) => 2 + words,
            Op::Batch(first, second) => 2 + first + 2 + second,
            Op::Truncate { reserved, .. } => 2 + reserved,
        }
    }

    /// Sizes in units of the messages that the receiver gets from it.
    pub fn messages(self) -> impl Iterator<Item = u8> {
        let (first, second) = match self {
            Op::Send(words) | Op::Try(words) => (Some(2 + words), None),
            Op::Batch(first, second) => (Some(2 + first), Some(2 + second)),
            Op::Truncate { kept, .. } => (Some(2 + kept), None),
            Op::Discard(_) => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// A reservation in somebody's hands.
pub struct Reservation {
    pub op: Op,
    pub at: u8,
    pub slot: u8,
    /// Owner slot of the reservation before it.
    pub previous: u8,
    pub sender: u8,
    pub number: u8,
}

/// Mutants of the way a reservation is written.
#[derive(Clone, Copy, Default)]
pub struct Scribe {
    pub headers_first_to_last: bool,
    pub inner_headers_name_the_tail: bool,
    pub tag_before_payload: bool,
}

/// The stores that finish a reservation, in order.
#[derive(Default)]
pub struct Stores {
    stores: [(u8, Word); 12],
    pub count: u8,
}

impl Stores {
    fn push(&mut self, position: u8, word: Word) {
        self.stores[usize::from(self.count)] = (position, word);
        self.count += 1;
    }

    /// Without the last: the tag that would commit.
    pub fn uncommitted(mut self) -> Stores {
        self.count -= 1;
        self
    }

    pub fn get(&self, number: u8) -> (u8, Word) {
        self.stores[usize::from(number)]
    }
}

impl Reservation {
    /// Payloads, then the headers last to first: the tag of the first publishes all.
    pub fn stores(&self, scribe: Scribe) -> Stores {
        let mut stores = Stores::default();
        let id = |record| Id { sender: self.sender, op: self.number, record };
        let second_at = |size: u8| self.at.wrapping_add(size);
        let inner = if scribe.inner_headers_name_the_tail { self.previous } else { self.slot };
        let mut headers = [None; 2];
        match self.op {
            Op::Send(_) | Op::Try(_) => headers[0] = Some((self.at, self.op.units(), Tag::Committed)),
            Op::Discard(_) => headers[0] = Some((self.at, self.op.units(), Tag::Discarded)),
            Op::Batch(first, second) => {
                headers[0] = Some((self.at, 2 + first, Tag::Committed));
                headers[1] = Some((second_at(2 + first), 2 + second, Tag::Committed));
            }
            Op::Truncate { reserved, kept } => {
                let rest = if reserved - kept == 1 { Tag::Filler } else { Tag::Discarded };
                headers[0] = Some((self.at, 2 + kept, Tag::Committed));
                headers[1] = Some((second_at(2 + kept), reserved - kept, rest));
            }
        }
        for (record, header) in (0..).zip(headers) {
            if let Some((at, units, Tag::Committed)) = header {
                for word in 2..units {
                    stores.push(at.wrapping_add(word), Word::payload(id(record), word));
                }
            }
        }
        let order = if scribe.headers_first_to_last { [0, 1] } else { [1, 0] };
        for record in order {
            let Some((at, units, tag)) = headers[usize::from(record)] else { continue };
            if tag != Tag::Filler {
                let previous = if record == 0 { self.previous } else { inner };
                let info = Info { units, slot: self.slot, previous, id: id(record) };
                stores.push(at.wrapping_add(1), Word::info(info));
            }
            stores.push(at, Word::tag(at, tag));
        }
        if scribe.tag_before_payload {
            stores.stores[..usize::from(stores.count)].reverse();
        }
        stores
    }
}
