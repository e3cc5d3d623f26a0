//! What a mailbox is made with.

use super::*;
use crate::ring::mailbox::{MOST_LEVELS, MOST_SEATS, Shape};

/// Bytes of the longest message of a mailbox whose builder does not say: as of the kernel's queues.
const LONGEST_MAIL: u64 = 8192;

impl Builder {
    /// A mailbox for any number of senders and receivers, each of whose messages goes to exactly one of them; attach with
    /// [`Ring::mailbox`]. It holds up to so many messages (1 to 65536, rounded up to a power of two), each of up to
    /// [`longest_message`](Builder::longest_message) bytes (8192 unless set), and takes the memory for all of them.
    pub fn mailbox(mut self, messages: u32) -> Self {
        self.messages = Some(messages);
        self
    }

    /// Priorities of a mailbox, 1 to 32: those are 0 to one less, and the highest is received first. Default 1.
    pub fn priorities(mut self, levels: u8) -> Self {
        self.priorities = levels;
        self
    }

    /// How many handles may be attached to a mailbox at a time, 1 to 63. Default 63; 2 makes it a private one.
    pub fn seats(mut self, most: u8) -> Self {
        self.seats = most;
        self
    }

    /// What a new mailbox is made for; `None` when it is to be a ring.
    pub(super) fn shape(&self) -> Result<Option<Shape>, OpenError> {
        let (Some(messages), Kind::Mailbox { seats, levels, cells }) = (self.messages, self.kind()) else {
            let priorities = ("number of priorities of a ring that is no mailbox", self.priorities, 1);
            let seats = ("number of seats of a ring that is no mailbox", self.seats, MOST_SEATS);
            return match [priorities, seats].into_iter().find(|(_, given, only)| given != only) {
                None => Ok(None),
                Some((what, given, only)) => {
                    let (given, only) = (given.into(), only.into());
                    Err(OpenError::Setting { what, given, least: only, most: only })
                }
            };
        };
        let longest = self.longest.unwrap_or(LONGEST_MAIL);
        for (what, given, most) in [
            ("number of messages", messages.into(), MOST_CELLS.into()),
            ("number of priorities", levels.into(), MOST_LEVELS.into()),
            ("number of seats", seats.into(), u64::from(MOST_SEATS)),
            ("longest message of a mailbox", longest.max(1), u32::MAX.into()),
        ] {
            if !(1..=most).contains(&given) {
                return Err(OpenError::Setting { what, given, least: 1, most });
            }
        }
        let other = [
            (self.elastic, "a ceiling, up to which it grows"),
            (self.capacity.is_some(), "a capacity: that of a mailbox follows from its messages"),
            (self.readers.is_some(), "a number of readers"),
            (self.many_senders.is_some(), "a number of senders"),
            (self.item.is_some(), "a type of message"),
            (self.rendezvous, "no buffer"),
        ];
        if let Some((_, what)) = other.iter().find(|(set, _)| *set) {
            return Err(mismatch("kind of ring", "a mailbox", format_args!("a ring with {what}")));
        }
        Ok(Some(Shape { cells, levels, longest: longest as u32 }))
    }
}
