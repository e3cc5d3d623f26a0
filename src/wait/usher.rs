//! When senders that wait for room are let in.

use super::{Bell, Due, Waker};
use crate::{
    ring::{loan::Tail, memory::Memory, position::Position},
    sys::futex::Scope,
};

/// The receiver's side of waking those who wait for room.
pub(crate) struct Usher {
    waker: Waker,
    scope: Scope,
    /// Somebody waits for half of the ring, and less of it is free before this.
    half_free_at: Option<Position>,
}

impl Usher {
    pub(crate) fn new(waker: Waker, scope: Scope) -> Self {
        Self { waker, scope, half_free_at: None }
    }

    /// Whether [`Usher::offer_room`] would do nothing, where the ring may not be empty.
    #[inline(always)]
    pub(crate) fn may_be_left(&self, memory: &Memory, head: Position) -> bool {
        let enough = self.half_free_at.is_some_and(|then| head.has_reached(then));
        !enough && Bell::of_senders(memory, self.scope).may_be_left(&self.waker)
    }

    /// Wakes senders that wait for room when one of them asked for any, when half of the ring is free, or when it is `empty`. One
    /// of them, unless one asked for any: several that send at once take the lines from each other, and the processors from the
    /// receiver. Whom that has left asleep is woken, one at a time, whenever the ring is empty. True when somebody was woken.
    ///
    /// `head` is the receiver's, who has released all before it.
    pub(crate) fn offer_room(&mut self, memory: &Memory, head: Position, empty: bool) -> bool {
        let Self { waker, scope, half_free_at } = self;
        if half_free_at.is_some_and(|then| empty || head.has_reached(then)) {
            *half_free_at = None;
            waker.ask_again();
        }
        let bell = Bell::of_senders(memory, *scope);
        let woken = bell.ring(waker, |eager| {
            if eager || empty {
                return Due::One;
            }
            if half_free_at.is_some() {
                return Due::NotYet;
            }
            // By an old tail half is free earlier, and who is woken too early announces its sleep anew.
            let Some(tail) = Tail::of(memory).position() else { return Due::One };
            let (used, capacity) = (tail.since(head), memory.geometry().capacity_units());
            if used <= capacity / 2 || used > capacity {
                // Or more than there is: whoever announced it has given up, and gone on.
                return Due::One;
            }
            // The tail only grows: it need not be looked at again before that, and senders write to it all the time.
            *half_free_at = Some(tail.back(capacity / 2));
            Due::NotYet
        });
        woken || empty && bell.ring_once_more(waker)
    }

    /// Called by a receiver that leaves.
    pub(crate) fn cover(&mut self, memory: &Memory) {
        Bell::of_senders(memory, self.scope).cover(&mut self.waker);
    }
}
